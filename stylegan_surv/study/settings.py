"""How a study is analysed; every default stands here once, for Python and for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stylegan_surv.survival.metrics.interval import RESAMPLES

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
    folds, repeats : int
        Outer folds, ≥ 2, and how often they are drawn anew; the inner cross-validation has five.
    permutations : int
        Reruns with permuted photographs, for the test of added value and the control; 0 for none. The smallest p is
        1 / (1 + permutations).
    n_boot : int
        Bootstrap resamples of patients for the intervals.
    horizons : sequence of float, optional
        Times for S(t) in the cohort's unit; by default the quartiles of event time with at least 10 % at risk.
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
    folds: int = 5
    repeats: int = 3
    permutations: int = 199
    n_boot: int = RESAMPLES
    horizons: Sequence[float] | None = None
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

    def stated(self) -> dict[str, Any]:
        """What a reader must know of the analysis, as the report and the model's card state it."""
        always = (
            "strata",
            "groups",
            "folds",
            "repeats",
            "permutations",
            "n_boot",
            "seed",
            "compare",
            "edited",
            "skin_tone",
        )
        given = {"title": self.title, "tried": self.tried, "file": self.plan, "file_sha256": self.plan_sha256}
        return {name: getattr(self, name) for name in always} | {
            name: value for name, value in given.items() if value is not None
        }
