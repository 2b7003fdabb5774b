"""A cohort of simulated patients: faces, signs, camera, table and truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from stylegan_surv._files import write_csv
from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.simulate.apparent import apparent_sex
from stylegan_surv.simulate.patients import (
    clinical_table,
    draw_doses,
    draw_patients,
    outcomes,
    unit_weights,
    weighted,
)
from stylegan_surv.simulate.pictures import drawn_faces, painted_faces, photograph_all
from stylegan_surv.simulate.population import plan, sample_w
from stylegan_surv.simulate.settings import DEFAULT_SIGNS, Options, Simulation, TruthKind
from stylegan_surv.simulate.truth import Truth

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.gan import Generator

FACES, DOSES = 2, 3  # streams of the seed; `plan` has the first


def simulate_cohort(
    generator: Generator,
    n: int = 1000,
    seed: int = 0,
    *,
    out: str | Path,
    signs: Mapping[str, float] | None = None,
    truth: TruthKind = "signs",
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> tuple[Cohort, Truth]:
    """Make a cohort of synthetic patients: ``out/clinical.csv`` and camera chips in ``out/chips``.

    The log-hazard is a score of painted signs, plus age, plus stage; what the picture tells of it, E[log-hazard | face
    and signs], has SD 1. The doses of the signs are independent of the face, of the tone of its skin and of the camera.
    Times are Weibull, censoring is uniform and independent. The chips are cut as the generator frames them: no face
    detector is run on them.

    Parameters
    ----------
    generator : Generator
        Draws the faces.
    n : int
        Patients, ≥ 10, one photograph each.
    seed : int
        Everything random follows from it.
    out : str or Path
        Folder to write to.
    signs : mapping of str to float, optional
        Which signs are painted, and their weights in the log-hazard, of which only the ratios count; a weight of 0
        paints a sign that means nothing. By default ``DEFAULT_SIGNS``.
    truth : {"signs", "latent"}
        What raises the hazard: painted signs, or a random direction of the generator's own w, with nothing painted.
    progress : callable, optional
        Called with (done, total).
    **options : Options
        Fields of :class:`Simulation`: ``truncation_psi``, ``events``, ``camera``, ``confound``, ``sex_effect``,
        ``null``.

    Returns
    -------
    (Cohort, Truth)

    Raises
    ------
    InputError
        If `n` < 10, ``events`` is outside (0, 1), a sign is unknown, or signs are given for a latent truth.
    """
    from stylegan_surv.cohort import read_cohort
    from stylegan_surv.survival import concordance

    settings = Simulation(**options)
    settings.check(n)
    weights = _weights(signs, truth)
    rng = np.random.default_rng([seed, FACES])
    planted = plan(generator, seed, settings.truncation_psi)
    w = sample_w(generator, n, int(rng.integers(2**31)), settings.truncation_psi).astype(np.float64)
    doses = draw_doses(weights, n, np.random.default_rng([seed, DOSES]))
    score = weighted(doses, weights, n) if truth == "signs" else None
    male = apparent_sex(generator, w, planted)
    drawn = draw_patients(w, planted, rng, male=male, signs=score, sex_effect=settings.sex_effect)
    time, event = outcomes(np.zeros(n) if settings.null else drawn.log_hazard, settings.events, rng)
    table = clinical_table(drawn, time, event, rng)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "clinical.csv", table)
    faces = drawn_faces(generator, w)
    if truth == "signs":
        faces = painted_faces(faces, doses, seed)
    betrayed = settings.confound * drawn.log_hazard / drawn.log_hazard.std()
    names = list(table["patient_id"])
    photograph_all(faces, names, folder / "chips", seed, settings.camera, betrayed, progress)
    cohort = read_cohort(
        folder / "clinical.csv", photos=folder / "chips", time_origin="diagnosis (simulated)"
    )
    oracle = float(concordance(time, event, drawn.photo_part).estimate)
    return cohort, Truth(
        drawn.log_hazard, drawn.photo_part, w, planted.mean, planted.cov, oracle, male,
        direction=drawn.direction, doses=doses, weights=weights,
    )  # fmt: skip


def _weights(signs: Mapping[str, float] | None, truth: TruthKind) -> dict[str, float]:
    """Unit weights of the signs that are painted."""
    from stylegan_surv.signs.paint import check_signs

    if truth not in ("signs", "latent"):
        raise InputError(f"truth is {truth!r}; expected 'signs' or 'latent'")
    if truth == "latent":
        if signs is not None:
            raise InputError(
                "signs are given for truth='latent', which paints none; leave out one of the two"
            )
        return {}
    chosen = DEFAULT_SIGNS if signs is None else signs
    check_signs(chosen)
    return unit_weights(chosen)
