"""A fitted study as the page shows it: its attribute, its model, and what one risk is shown beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylegan_surv._types import Floats
from stylegan_surv.attribute import HealthAttribute, load_attribute
from stylegan_surv.attribute.pattern import Kind
from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips
from stylegan_surv.gan import Generator
from stylegan_surv.inversion import Latents
from stylegan_surv.inversion.again import generator_of, inverter_of
from stylegan_surv.inversion.inverter import Inverter
from stylegan_surv.report.finding import Finding
from stylegan_surv.report.verdict import findings
from stylegan_surv.study import Study
from stylegan_surv.study.page import PageData, Percentiles
from stylegan_surv.survival.design import layer_groups
from stylegan_surv.survival.engines.base import RiskModel
from stylegan_surv.survival.engines.persist import load_model

ALL = "all"  # layers
REACH, STRIDE = 3.0, 0.1  # of the slider, SD of risk
USUAL = 99.0  # per cent of held-out patients within whose distance a latent counts as one of a real face
CALM = 0.7  # of the cohort's spread, for faces that are made up
ORDER: tuple[Kind, ...] = ("adjusted", "pattern", "coefficient")  # what is shown first: free of age and sex


@dataclass(frozen=True)
class Way:
    """Along which direction an edit goes: its kind, and "all" layers or one group of them."""

    kind: Kind
    layers: str = ALL


@dataclass(frozen=True)
class Standing:
    """Where one latent stands in the cohort.

    Attributes
    ----------
    risk : float
        Score of the model.
    risk_sd : float
        SD of risk above the cohort's median.
    percentile : float
        Of out-of-fold risks; the ends are those that are known, 1 and 99.
    hazard_ratio : float or None
        Against the photograph as it is; None for models whose score is no log hazard.
    survival : array of float, shape (GRID,)
        Predicted, at the times of the cohort's curve.
    low, high : array of float, shape (GRID,), or None
        Between which 95 % of refits lie.
    death : float or None
        Predicted risk by the horizon at which calibration was tested.
    observed : float or None
        What was observed among patients with that prediction; None outside the range that was tested.
    usual : bool
        Within the distance of 99 % of held-out patients.
    """

    risk: float
    risk_sd: float
    percentile: float
    hazard_ratio: float | None
    survival: Floats
    low: Floats | None
    high: Floats | None
    death: float | None
    observed: float | None
    usual: bool


@dataclass(frozen=True, eq=False)
class Exhibit:
    """What is loaded once, for every tab.

    Attributes
    ----------
    study : Study
    attribute : HealthAttribute
    model : estimator
    page : PageData
    generator : Generator
    ways : dict of Way to HealthAttribute
        Every direction that can be shown.
    patients : Latents or None
        Of the study, where its faces may be shown.
    chips : Chips or None
        Their photographs.
    """

    study: Study
    attribute: HealthAttribute
    model: Any
    page: PageData
    generator: Generator
    ways: dict[Way, HealthAttribute] = field(default_factory=dict)
    patients: Latents | None = None
    chips: Chips | None = None

    @classmethod
    def open(cls, folder: str | Path, photos: str | Path | None = None) -> Exhibit:
        """Read the folder that `fit` wrote, and the networks that it names.

        Parameters
        ----------
        folder : str or Path
        photos : str or Path, optional
            The chips of its patients, where their faces may be shown.

        Raises
        ------
        InputError
            A file or a network is missing, damaged or another one.
        """
        folder = Path(folder)
        attribute = load_attribute(folder / "model")
        model, _ = load_model(folder / "model")
        page = PageData.open(folder / "model")
        generator = generator_of(attribute.origin)
        config = generator.config
        if attribute.pattern.shape != (config.num_ws, config.w_dim):
            raise InputError(
                f"the attribute is {list(attribute.pattern.shape)} and the generator's latents are "
                f"{[config.num_ws, config.w_dim]}; fit the study again with the generator that is at hand"
            )
        shown = {
            Way(kind, layers): attribute if layers == ALL else attribute.within(layers)
            for kind in ORDER
            if getattr(attribute, kind) is not None
            for layers in (ALL, *layer_groups(*attribute.pattern.shape))
        }
        patients, chips = (None, None) if photos is None else (_patients(attribute), Chips.open(photos))
        return cls(Study.open(folder), attribute, model, page, generator, shown, patients, chips)

    @cached_property
    def inverter(self) -> Inverter:
        """What embeds a photograph as the study was; loaded on first use.

        Raises
        ------
        InputError
            If the encoder or the settings cannot be had.
        """
        return inverter_of(self.attribute.origin, self.generator)

    @property
    def findings(self) -> list[Finding]:
        """What the audit found, as the report has it."""
        study = self.study
        cohort = study.metrics["cohort"]
        flow = {**cohort["flow"], "late_photos": cohort["late_entries"]}
        return findings(study.metrics, flow, study.facts.flags, study.provenance, study.config.get("tried"))

    def along(self, way: Way) -> HealthAttribute:
        """The attribute that goes this way; an InputError where the study has none."""
        if way not in self.ways:
            known = ", ".join(f"{w.kind}/{w.layers}" for w in self.ways)
            raise InputError(f"there is no direction {way.kind}/{way.layers}; this study has {known}")
        return self.ways[way]

    def average(self) -> torch.Tensor:
        """The generator's mean latent, shape (num_ws, w_dim): nobody's face."""
        return self.generator.mapping.w_avg.expand(self.generator.config.num_ws, -1).clone()

    def another(self, seed: int) -> torch.Tensor:
        """A latent of somebody who does not exist, shape (num_ws, w_dim): drawn from the spread of the cohort's.

        Draws of the generator's own mapping lie elsewhere than embedded photographs, and would be marked as unusual.
        """
        space, rng = self.page.latents, np.random.default_rng(seed)
        z = CALM * np.sqrt(space.variances) * rng.standard_normal(len(space.variances))
        drawn = (space.mean + z @ space.components).astype(np.float32)
        return torch.from_numpy(drawn).reshape(self.attribute.pattern.shape)

    def risks(self, w_plus: torch.Tensor) -> Floats:
        """Scores of latents, shape (n,)."""
        return np.asarray(self.model.predict(flat(w_plus)), float)

    def usual(self, w_plus: torch.Tensor) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which latents are as near to the cohort's as 99 % of held-out patients, shape (n,)."""
        distance, left_over = self.page.latents.place(flat(w_plus))
        near: np.ndarray[Any, np.dtype[np.bool_]] = (distance <= _at(self.page.distance)) & (
            left_over <= _at(self.page.left_over)
        )
        return near

    def standing(self, w_plus: torch.Tensor, start: torch.Tensor) -> Standing:
        """Where a latent stands that an edit of `start` has led to; both of shape (num_ws, w_dim)."""
        both = torch.stack([w_plus, start])
        risk, before = self.risks(both)
        page, times = self.page, self.page.survival.time
        survival = np.asarray(self.model.predict_survival_function(flat(both[:1]), times), float)[0]
        band = None if page.refits is None else page.refits.band(flat(both[:1])[0])
        death, observed = self._calibrated(both[:1])
        known = page.risk
        return Standing(
            risk=float(risk),
            risk_sd=float(
                (risk - np.interp(50, known.percent, known.value)) / (self.attribute.risk_sd or 1.0)
            ),
            percentile=float(np.interp(risk, known.value, known.percent)),
            hazard_ratio=float(np.exp(risk - before)) if isinstance(self.model, RiskModel) else None,
            survival=survival,
            low=None if band is None else band[0],
            high=None if band is None else band[1],
            death=death,
            observed=observed,
            usual=bool(self.usual(both[:1])[0]),
        )

    def _calibrated(self, w_plus: torch.Tensor) -> tuple[float | None, float | None]:
        """Predicted risk by the tested horizon, and what was observed there."""
        line = self.page.calibration
        if line is None:
            return None, None
        death = 1 - float(
            np.asarray(self.model.predict_survival_function(flat(w_plus), [line.horizon]))[0, 0]
        )
        tested = line.predicted[0] <= death <= line.predicted[-1]
        return death, float(np.interp(death, line.predicted, line.observed)) if tested else None

    def facts(self) -> dict[str, Any]:
        """What the page needs once, for JSON."""
        page, flow = self.page, self.study.flow
        kinds = {w.kind: _words(w.kind, self.attribute.adjusted_for) for w in self.ways}
        curve, line = page.survival, page.calibration
        return {
            "kinds": kinds,
            "layers": list(dict.fromkeys(w.layers for w in self.ways)),
            "reach": REACH,
            "stride": STRIDE,
            "hazard": isinstance(self.model, RiskModel),
            "unit": page.time_unit,
            "cohort_patients": flow.patients,
            "events": flow.events,
            "cohort": {k: _short(getattr(curve, k)) for k in ("time", "survival", "low", "high")},
            "refits": None if page.refits is None else len(page.refits.centre),
            "calibration": None
            if line is None
            else {
                "horizon": line.horizon,
                "low": float(line.predicted[0]),
                "high": float(line.predicted[-1]),
            },
            "resolution": self.generator.config.resolution,
            "split_half": self.attribute.split_half,
            "findings": [{"level": f.level, "title": f.title, "text": f.text} for f in self.findings],
            "note": self.attribute.note,
            "patients": self.names(),
        }

    def names(self) -> list[str]:
        """Photographs of the study that may be shown; none unless faces are allowed."""
        if self.patients is None or self.chips is None:
            return []
        return sorted(set(map(str, self.patients.ids)) & set(map(str, self.chips.ok["photo_id"])))


def flat(w_plus: torch.Tensor) -> Floats:
    """Latents (n, num_ws, w_dim) as rows of numbers."""
    rows: Floats = w_plus.reshape(len(w_plus), -1).cpu().numpy()
    return rows


def _patients(attribute: HealthAttribute) -> Latents:
    """The latents that the model was fitted to."""
    if attribute.latents is None or not attribute.latents.is_dir():
        raise InputError(
            f"the study's latents are not at {attribute.latents}, so that no patient can be shown; leave --faces out"
        )
    return Latents.open(attribute.latents)


def _at(found: Percentiles) -> float:
    return float(np.interp(USUAL, found.percent, found.value))


def _short(values: Floats) -> list[float]:
    return [round(float(v), 4) for v in values]


def _words(kind: Kind, adjusted_for: tuple[str, ...]) -> str:
    """What a kind of direction is, in few words."""
    if kind == "adjusted":
        return "pattern adjusted for " + ", ".join(adjusted_for)
    if kind == "pattern":
        return "pattern (how faces of higher risk differ)"
    return "coefficient (shortest change of the score)"
