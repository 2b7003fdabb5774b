"""Pivotal tuning (Roich et al. 2022): bend the generator until it draws one photograph exactly, for display.

The latent stays as it is, the weights move. What they absorb is seen by no survival model: a picture that is drawn so
looks like the patient, but says no more about the patient than the latent did. Never use tuned weights as features.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from stylegan_surv._files import write_tensors
from stylegan_surv._records import check_format
from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan import LPIPS, Generator
from stylegan_surv.inversion.inverter import DISPLAY_ONLY
from stylegan_surv.inversion.origin import check_network, network_sha256
from stylegan_surv.inversion.projector import mapped, shrink, squared_error

FORMAT = 1  # of a delta file
BALL = 5.0  # distance of the locality's anchors from the pivot in w (Roich et al., section 3.3: α = 5)


def tune(
    generator: Generator,
    image: Tensor,
    w_plus: Tensor,
    *,
    steps: int = 150,
    rate: float = 1e-3,
    target: float = 0.02,
    locality: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Generator:
    """A copy of the generator that draws ``image`` at ``w_plus``; the given one is not touched.

    Parameters
    ----------
    generator : Generator
    image : Tensor, shape (1, 3, resolution, resolution)
        In [−1, 1].
    w_plus : Tensor, shape (1, num_ws, w_dim)
        The pivot; edits start from it.
    steps : int
        At most so many of Adam's, on the synthesis weights.
    rate : float
        Its learning rate.
    target : float
        LPIPS at which to stop.
    locality : float
        Weight of staying the same elsewhere in the latent space, so that edits keep their meaning.
    seed : int
        Of the anchors where that is checked.
    progress : callable, optional
        Called with (steps done, at most so many).
    """
    tuned = _display_copy(generator)
    weights = [p.requires_grad_(True) for p in tuned.synthesis.parameters() if p.ndim == 4]
    optimiser = torch.optim.Adam(weights, lr=rate)
    perceptual = LPIPS().to(image.device)
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        drawn = tuned.synthesis(w_plus)
        distance = perceptual(shrink(drawn), shrink(image))
        if float(distance.detach().mean()) <= target:
            break
        loss = distance.mean() + squared_error(drawn, image).mean()
        if locality:
            anchor = _anchor(generator, w_plus, rng)
            with torch.no_grad():
                before = generator.synthesis(anchor)
            after = tuned.synthesis(anchor)
            loss = (
                loss
                + locality * (perceptual(shrink(after), shrink(before)) + squared_error(after, before)).mean()
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if progress is not None:
            progress(step + 1, steps)
    return tuned.requires_grad_(False)


def _display_copy(generator: Generator) -> Generator:
    """A copy that does not pass for the original: without its hash, and refused where latents are made."""
    tuned = copy.deepcopy(generator)
    tuned.card = {k: v for k, v in generator.card.items() if k != "sha256"} | {"use": DISPLAY_ONLY}
    return tuned


@torch.no_grad()
def _anchor(generator: Generator, w_plus: Tensor, rng: torch.Generator) -> Tensor:
    """A point near the pivot, on the way to a random sample of the generator."""
    away = mapped(generator, torch.randn(1, generator.config.z_dim, generator=rng)) - w_plus
    anchor: Tensor = w_plus + BALL * away / away.norm(dim=2, keepdim=True).clamp_min(1e-8)
    return anchor


def save_delta(tuned: Generator, generator: Generator, path: str | Path, image: Tensor | None = None) -> None:
    """Write the difference of the weights in half precision, bound to the generator and the photograph by hashes."""
    base = generator.state_dict()
    changed = {name: (value - base[name]) for name, value in tuned.state_dict().items()}
    small = {name: value.half().cpu().contiguous() for name, value in changed.items() if bool(value.any())}
    bound = {"generator_sha256": network_sha256(generator), "photograph_sha256": picture_sha256(image)}
    write_tensors(Path(path), small, {**bound, "use": DISPLAY_ONLY, "format": str(FORMAT)})


def load_delta(generator: Generator, path: str | Path, image: Tensor | None = None) -> Generator:
    """The tuned generator of a delta file.

    Raises
    ------
    InputError
        If the file is damaged or of another format; :class:`Refused` if it belongs to another generator or photograph.
    """
    try:
        with safe_open(path, "pt") as file:
            bound: dict[str, str] = file.metadata() or {}
            delta = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as fault:
        raise InputError(
            f"{path} is not a readable delta file ({fault}); name another file, or delete it to tune again."
        ) from fault
    again = "Name another file, or delete it to tune again."
    check_format(bound.get("format"), FORMAT, path, again)
    check_network("generator", generator, bound.get("generator_sha256", ""), f"{path} was tuned for", again)
    if image is not None and bound.get("photograph_sha256") != picture_sha256(image):
        raise Refused(f"{path} was tuned for another photograph. {again}")
    tuned = _display_copy(generator)
    state = tuned.state_dict()
    if wrong := [k for k, v in delta.items() if k not in state or state[k].shape != v.shape]:
        raise InputError(f"{path} changes {wrong[0]!r}, which the generator does not have so. {again}")
    for name, value in delta.items():
        state[name] += value.to(state[name])
    return tuned


def picture_sha256(image: Tensor | None) -> str:
    """SHA-256 of an aligned picture's pixels; of nothing, nothing."""
    return "" if image is None else hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest()
