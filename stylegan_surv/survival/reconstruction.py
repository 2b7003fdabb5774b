"""Does the risk come from what the latent holds? Risk of a photograph against risk of its reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stylegan_surv.survival.controls import reconstruction_agreement

if TYPE_CHECKING:
    from stylegan_surv.inversion import Latents

_BATCH = 16


def reconstruction_control(
    model: Any,
    latents: Latents,
    generator: Any = "synthetic-64",
    *,
    encoder: Any = None,
    limit: int = 200,
    seed: int = 0,
) -> dict[str, float]:
    """Draw photographs from their latents, embed the drawings again by the encoder, and compare the risks.

    Parameters
    ----------
    model : fitted estimator with ``predict(X)``, X [n, num_ws · w_dim]
    latents : Latents
        Of the study.
    generator, encoder : networks, paths or zoo names, as in `embed`
    limit : int
        Photographs to use, drawn at random.
    seed : int

    Returns
    -------
    dict
        As `reconstruction_agreement`, with ``photographs``. A low correlation: the risk rests on what does not
        survive the generator (noise of the inversion), not on what one sees.
    """
    import torch

    from stylegan_surv.gan import load_generator
    from stylegan_surv.inversion import embed

    chosen = np.sort(np.random.default_rng(seed).permutation(len(latents))[:limit])
    w_plus = latents.w_plus[chosen]
    network = load_generator(generator) if isinstance(generator, str) else generator
    with torch.no_grad():
        drawn = [
            network.synthesis(torch.from_numpy(w_plus[k : k + _BATCH])) for k in range(0, len(w_plus), _BATCH)
        ]
    names = [str(latents.ids[i]) for i in chosen]
    images = torch.cat(drawn).clamp(-1, 1)
    again = embed(
        images,
        generator=network,
        encoder=encoder,
        method="encoder",
        photo_ids=names,
        patient_ids=names,
        seed=seed,
    )
    order = {str(name): k for k, name in enumerate(again.ids)}
    second = again.w_plus[[order[name] for name in names]]
    risks = (np.asarray(model.predict(w.reshape(len(w), -1))) for w in (w_plus, second))
    return {**reconstruction_agreement(*risks), "photographs": float(len(chosen))}
