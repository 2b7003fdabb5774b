"""Settings of simulated patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypedDict

from stylegan_surv.errors import InputError

TruthKind = Literal["signs", "latent"]
LEAST = 10  # patients of a cohort
# What is painted unless said otherwise, and its weight in the hazard.
DEFAULT_SIGNS: Mapping[str, float] = MappingProxyType({"pallor": 1.0, "wasting": 1.0, "shadow": 0.7})


class Options(TypedDict, total=False):
    """The fields of :class:`Simulation` as keyword arguments."""

    truncation_psi: float
    events: float
    camera: float
    confound: float
    sex_effect: float
    null: bool


@dataclass(frozen=True)
class Simulation:
    """How patients are simulated.

    Attributes
    ----------
    truncation_psi : float
        Of the samples; nearer 0 the faces are cleaner and more alike.
    events : float
        Expected share of patients whose death is seen, in (0, 1).
    camera : float
        Strength of the photographic nuisance, 0 for none.
    confound : float
        How much the background and light betray the log-hazard, in SD of it; 0 for not at all.
    sex_effect : float
        Log-hazard of a face that looks male over one that looks female; 0 for none.
    null : bool
        Draw outcomes independent of everything, for controls.
    """

    truncation_psi: float = 1.0
    events: float = 0.6
    camera: float = 1.0
    confound: float = 0.0
    sex_effect: float = 0.0
    null: bool = False

    def check(self, n: int) -> None:
        """Refuse a cohort of `n` that cannot be simulated."""
        if n < LEAST or not 0 < self.events < 1:
            raise InputError(
                f"n is {n} and events {self.events}; expected n ≥ {LEAST} and a share of events between 0 and 1"
            )
