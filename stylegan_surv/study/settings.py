"""How a study is analysed; every default stands here once, for Python and for the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylegan_surv.errors import InputError
from stylegan_surv.survival.metrics.interval import RESAMPLES
from stylegan_surv.survival.metrics.names import THRESHOLDS

MODELS = ("cox-ridge",)  # exact and fast at any number of latent dimensions; others are asked for by name


@dataclass(frozen=True)
class StudySettings:
    """The analysis, apart from its data, its models and its clinical variables.

    Attributes
    ----------
    strata : str, optional
        A column, or ``column:width`` for bins (``entry_year:5``). Discrimination is reported within strata as well,
        folds are balanced over them, and permutations stay inside them. The models are fitted without.
    groups : str, optional
        A column (site, family) whose levels are kept together in one fold.
    nuisance : mapping of str to str, optional
        ``{"year": column, "site": column, "camera": column}``, any of them: columns that tell when, where and by what
        the photographs were taken. Years are also found by their values and dates, and every text column of few
        levels is tried as a site.
    folds, repeats : int
        Outer folds, ≥ 2, and how often they are drawn anew; the inner cross-validation has five.
    permutations : int
        Reruns with permuted photographs, for the test of added value and the control; 0 for none. The smallest p is
        1 / (1 + permutations).
    n_boot : int
        Bootstrap resamples of patients for the intervals.
    linear : bool
        Let every number among the clinical variables act along a line; by default along a penalised spline.
    horizons : sequence of float, optional
        Times for S(t) in the cohort's unit, above 0; the middle one serves calibration and net benefit. By default
        the quartiles of event time with at least 10 % at risk. Beyond the follow-up nothing is estimated.
    thresholds : sequence of float
        Predicted risks, between 0 and 1, at which one would act, for net benefit; to be set before results are seen.
    seed : int
        Everything random follows from it.
    strict : bool
        Refuse a study some of whose patients the generator or encoder was trained on, or may have been.
    n_jobs : int
        Processes over folds; −1 for one per core. Results do not depend on it.
    compare : sequence of str
        ``"face-recognition"`` sets the photograph against dlib's 128 numbers of identity (needs chips).
    edited : int
        Photographs that are embedded again, edited and as reconstructions, to see how far the risk moves; 0 for none.
    skin_tone : bool
        Judge the bands of skin tone as subgroups, where the chips tell it (sensitive).
    title : str, optional
        Of the report.
    tried : int, optional
        How many configurations were tried on these data, this one included.
    plan, plan_sha256 : str, optional
        Name and hash of the file in which the analysis was set beforehand.
    final : bool
        Also fit the first model on all patients and derive the health attribute from it.
    """

    strata: str | None = None
    groups: str | None = None
    nuisance: Mapping[str, str] | None = None
    folds: int = 5
    repeats: int = 3
    permutations: int = 199
    n_boot: int = RESAMPLES
    linear: bool = False
    horizons: Sequence[float] | None = None
    thresholds: Sequence[float] = THRESHOLDS
    seed: int = 0
    strict: bool = False
    n_jobs: int = -1
    compare: Sequence[str] = ()
    edited: int = 32
    skin_tone: bool = True
    title: str | None = None
    tried: int | None = None
    plan: str | None = None
    plan_sha256: str | None = None
    final: bool = True

    def __post_init__(self) -> None:
        for t in self.horizons or ():
            if not 0 < t < float("inf"):
                raise InputError(f"horizons: got {t:g}; expected times above 0, in the unit of the table.")
        for p in self.thresholds:
            if not 0 < p < 1:
                raise InputError(
                    f"thresholds: got {p:g}; expected predicted risks between 0 and 1, such as 0.2."
                )

    def stated(self) -> dict[str, Any]:
        """What a reader must know of the analysis, as the report and the model's card state it."""
        always = (
            "strata",
            "groups",
            "folds",
            "repeats",
            "permutations",
            "n_boot",
            "thresholds",
            "linear",
            "seed",
            "compare",
            "edited",
            "skin_tone",
        )
        given = {
            "nuisance": self.nuisance or None,
            "horizons": self.horizons or None,
            "title": self.title,
            "tried": self.tried,
            "file": self.plan,
            "file_sha256": self.plan_sha256,
        }
        return {name: getattr(self, name) for name in always} | {
            name: value for name, value in given.items() if value is not None
        }
