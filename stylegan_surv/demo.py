"""The whole line on simulated patients, compared with the truth that was planted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stylegan_surv.simulate import Truth
    from stylegan_surv.study import Study

CLINICAL = ("age", "sex", "stage")


@dataclass(frozen=True)
class Demo:
    """What the demo prints.

    Attributes
    ----------
    photo_c, clinical_c, both_c : cross-validated Harrell C.
    oracle_c : C of all that a photograph could tell, E[log-hazard | face], on the same patients.
    recovered : (photo_c − 0.5) / (oracle_c − 0.5).
    score_cosine : correlation of the estimated with the true photo score over fresh faces.
    pattern_cosine : cosine of the estimated with the true health attribute.
    permuted_c : mean C of permuted outcomes, or None.
    seconds : wall time.
    """

    photo_c: float
    clinical_c: float
    both_c: float
    oracle_c: float
    recovered: float
    score_cosine: float
    pattern_cosine: float
    permuted_c: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def demo(
    out: str | Path,
    n: int = 1000,
    seed: int = 0,
    *,
    generator: str = "synthetic-64",
    encoder: str | None = None,
    method: str = "encoder",
    models: Sequence[str] = ("cox-ridge", "rsf"),
    repeats: int = 1,
    permutations: int = 100,
    pictures: bool = True,
    n_jobs: int = 1,
    true_latents: bool = False,
    stage: Callable[[str], Callable[[int, int], None] | None] = lambda _: None,
) -> tuple[Demo, Study, Truth]:
    """Simulate ``n`` patients, embed their photographs, evaluate, derive the attribute, write ``out/report.html``.

    Parameters
    ----------
    out : folder to write to.
    n, seed : size and seed of the cohort.
    generator : the network that draws the patients and that they are embedded in.
    encoder : another encoder than the generator's own.
    method : how photographs are embedded; see :func:`stylegan_surv.inversion.embed`.
    models, repeats, permutations, n_jobs : as in :func:`stylegan_surv.study.evaluate`.
    pictures : also look at the pictures without their faces, for one picture under two names, and at edited faces.
    true_latents : leave out camera and inversion, to see what they cost.
    stage : called with the name of each stage; returns its progress callback.

    Returns
    -------
    (Demo, Study, Truth)
    """
    from stylegan_surv.faces import Chips
    from stylegan_surv.gan import load_generator
    from stylegan_surv.inversion import Latents, embed
    from stylegan_surv.simulate import simulate_cohort
    from stylegan_surv.study import evaluate

    start, out = time.monotonic(), Path(out)
    network = load_generator(generator)
    cohort, truth = simulate_cohort(network, n, seed, out=out / "cohort", progress=stage("Photographing"))
    if true_latents:
        w_plus = np.repeat(truth.w[:, None].astype(np.float32), network.config.num_ws, axis=1)
        latents = Latents.from_arrays(
            w_plus, list(cohort.table["photo_id"]), list(cohort.table["patient_id"])
        )
    else:
        latents = embed(
            Chips.open(out / "cohort" / "chips"), cohort=cohort, generator=generator, encoder=encoder,
            out=out / "latents", method=method, progress=stage("Embedding"),  # type: ignore[arg-type]
        )  # fmt: skip
    study = evaluate(
        latents, cohort, models, CLINICAL, repeats=repeats, permutations=permutations, seed=seed, n_jobs=n_jobs,
        chips=Chips.open(out / "cohort" / "chips") if pictures else None, edited=32 if pictures else 0,
        progress=stage("Cross-validating"),
    )  # fmt: skip
    study.save(out)
    c = {
        name: study.metrics["models"][name]["harrell_c"]["estimate"] for name in ("photo", "clinical", "both")
    }
    beta = np.asarray(study.model.coef_, dtype=float).reshape(latents.w_plus.shape[1:])
    control = study.metrics.get("controls", {}).get("permuted_outcome")
    found = Demo(
        photo_c=c["photo"],
        clinical_c=c["clinical"],
        both_c=c["both"],
        oracle_c=truth.oracle_c,
        recovered=(c["photo"] - 0.5) / (truth.oracle_c - 0.5),
        score_cosine=truth.score_cosine(beta),
        pattern_cosine=truth.pattern_cosine(beta),
        permuted_c=control["mean"] if control else None,
        seconds=time.monotonic() - start,
    )
    return found, study, truth
