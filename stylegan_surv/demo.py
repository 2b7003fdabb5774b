"""The whole line on simulated patients, compared with the truth that was planted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stylegan_surv._types import Progress
from stylegan_surv.study.settings import StudySettings
from stylegan_surv.survival.metrics.names import BOTH, CLINICAL, HARRELL_C, PHOTO

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.faces import Chips
    from stylegan_surv.gan import Generator
    from stylegan_surv.inversion import Latents
    from stylegan_surv.inversion.settings import Method
    from stylegan_surv.simulate import Truth
    from stylegan_surv.study import Study

COVARIATES = ("age", "sex", "stage")


@dataclass(frozen=True)
class DemoSettings:
    """The demo's cohort, how its photographs are embedded, and how it is analysed.

    Attributes
    ----------
    n, seed : int
        Size and seed of the cohort.
    generator : str
        The network that draws the patients and that they are embedded in.
    encoder : str, optional
        Another encoder than the generator's own.
    method : {"encoder", "hybrid", "projector"}
        How photographs are embedded; see :func:`stylegan_surv.inversion.embed`.
    models : tuple of str
        As in :func:`stylegan_surv.study.evaluate`.
    repeats, permutations, n_jobs : int
        As in :class:`StudySettings`.
    pictures : bool
        Also look at the pictures without their faces, for one picture under two names, and at edited faces.
    true_latents : bool
        Leave out camera and inversion, to see what they cost.
    """

    n: int = 1000
    seed: int = 0
    generator: str = "synthetic-64"
    encoder: str | None = None
    method: Method = "encoder"
    models: tuple[str, ...] = ("cox-ridge", "rsf")
    repeats: int = 1
    permutations: int = 100
    n_jobs: int = StudySettings.n_jobs
    pictures: bool = True
    true_latents: bool = False

    @property
    def study(self) -> StudySettings:
        """The analysis."""
        return StudySettings(
            repeats=self.repeats,
            permutations=self.permutations,
            seed=self.seed,
            n_jobs=self.n_jobs,
            edited=StudySettings.edited if self.pictures else 0,
        )


@dataclass(frozen=True)
class Demo:
    """What the demo prints.

    Attributes
    ----------
    photo_c, clinical_c, both_c : float
        Cross-validated Harrell C.
    oracle_c : float
        C of all that a photograph could tell, E[log-hazard | face], on the same patients.
    recovered : float
        (photo_c − 0.5) / (oracle_c − 0.5).
    score_cosine : float
        Correlation of the estimated with the true photo score over fresh faces.
    pattern_cosine : float
        Cosine of the estimated with the true health attribute.
    permuted_c : float or None
        Mean C of permuted outcomes; None without permutations.
    seconds : float
        Wall time.
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
    settings: DemoSettings | None = None,
    *,
    stage: Callable[[str], Progress | None] = lambda _: None,
) -> tuple[Demo, Study, Truth]:
    """Simulate patients, embed their photographs, evaluate, derive the attribute, write ``out/report.html``.

    Parameters
    ----------
    out : str or Path
        Folder to write to.
    settings : DemoSettings, optional
    stage : callable
        Called with the name of each stage; returns its progress callback.

    Returns
    -------
    (Demo, Study, Truth)
    """
    from stylegan_surv.faces import Chips
    from stylegan_surv.gan import load_generator
    from stylegan_surv.simulate import simulate_cohort
    from stylegan_surv.study import evaluate

    settings = settings or DemoSettings()
    start, out = time.monotonic(), Path(out)
    network = load_generator(settings.generator)
    cohort, truth = simulate_cohort(
        network, settings.n, settings.seed, out=out / "cohort", progress=stage("Photographing")
    )
    chips = Chips.open(out / "cohort" / "chips")
    if settings.true_latents:
        latents = _true_latents(network, cohort, truth)
    else:
        latents = _embedded(settings, chips, cohort, out / "latents", stage("Embedding"))
    study = evaluate(
        latents, cohort, settings.models, COVARIATES, settings.study,
        chips=chips if settings.pictures else None, progress=stage("Cross-validating"),
    )  # fmt: skip
    study.save(out)
    models = study.metrics["models"]
    c = {name: models[name][HARRELL_C]["estimate"] for name in (PHOTO, CLINICAL, BOTH)}
    beta = np.asarray(study.model.coef_, dtype=float).reshape(latents.codes.shape[1:])
    control = study.metrics["controls"].get("permuted_outcome")
    found = Demo(
        photo_c=c[PHOTO],
        clinical_c=c[CLINICAL],
        both_c=c[BOTH],
        oracle_c=truth.oracle_c,
        recovered=(c[PHOTO] - 0.5) / (truth.oracle_c - 0.5),
        score_cosine=truth.score_cosine(beta),
        pattern_cosine=truth.pattern_cosine(beta),
        permuted_c=control["mean"] if control else None,
        seconds=time.monotonic() - start,
    )
    return found, study, truth


def _true_latents(network: Generator, cohort: Cohort, truth: Truth) -> Latents:
    from stylegan_surv.inversion import Latents

    w_plus = np.repeat(truth.w[:, None].astype(np.float32), network.config.num_ws, axis=1)
    table = cohort.table
    return Latents.from_arrays(w_plus, list(table["photo_id"]), list(table["patient_id"]))


def _embedded(
    settings: DemoSettings, chips: Chips, cohort: Cohort, out: Path, progress: Progress | None
) -> Latents:
    from stylegan_surv.inversion import embed

    return embed(
        chips, cohort=cohort, generator=settings.generator, encoder=settings.encoder, out=out,
        method=settings.method, progress=progress,
    )  # fmt: skip
