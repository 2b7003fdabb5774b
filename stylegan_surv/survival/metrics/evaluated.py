"""Every metric of one model on one chunk of resamples: what the table's rows are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stylegan_surv._types import Array, Bools, Floats
from stylegan_surv.survival.metrics import accuracy, names
from stylegan_surv.survival.metrics.calibration import calibration
from stylegan_surv.survival.metrics.competing import (
    concordance_of_incidence,
    incidence_at,
    observed_over_expected,
)
from stylegan_surv.survival.metrics.concordance import PairWeights, pair_weights, repeat_pairs
from stylegan_surv.survival.metrics.resamples import Resamples
from stylegan_surv.survival.validation.out_of_fold import Scores

CONSTANT = 1e-9  # spread below which predicted risks are all equal


@dataclass(frozen=True)
class Setting:
    """What all models are evaluated on."""

    horizons: Sequence[float]
    tau: float
    thresholds: Sequence[float]
    strata: Array | None
    followed: Callable[[Floats], Bools]

    def is_followed(self, t: float) -> bool:
        """Whether the follow-up reaches to `t`."""
        return bool(self.followed(np.array([t]))[0])

    @property
    def main(self) -> float:
        return middle(self.horizons)


def middle(horizons: Sequence[float]) -> float:
    """The horizon of calibration and net benefit."""
    return float(horizons[len(horizons) // 2])


class Evaluation:
    """Metrics of any model on one chunk of resamples; weights are computed once for all models."""

    def __init__(self, resamples: Resamples, setting: Setting) -> None:
        data = resamples.data
        self.resamples, self.setting = resamples, setting
        self.harrell = pair_weights(data, "harrell", None)
        self.uno = pair_weights(data, "uno", setting.tau, resamples.censoring, resamples.covariates)
        self._weights: dict[float, Floats] = {}

    def metrics(self, scores: Scores) -> dict[str, Floats]:
        """Every metric, [B]."""
        setting, data = self.setting, self.resamples.data
        if data.competing is not None:
            return self._where_deaths_compete(scores)
        values = {names.HARRELL_C: self._c(scores, self.harrell), names.UNO_C: self._c(scores, self.uno)}
        if setting.strata is not None:
            values[names.STRATIFIED_C] = self._c(scores, self.harrell, setting.strata)
        for t in setting.horizons:
            known = self.setting.is_followed(t)
            values[names.at(names.AUC, t)] = (
                accuracy.auc(scores, self.resamples, t, self._at(t)) if known else self._nothing
            )
        if scores.has_survival:
            values |= self._brier(scores) | self._calibration(scores) | self._net_benefit(scores)
        return values

    @property
    def _nothing(self) -> Floats:
        """No estimate: the follow-up does not reach so far, [B]."""
        return np.full(self.resamples.m.shape[1], np.nan)

    def _where_deaths_compete(self, scores: Scores) -> dict[str, Floats]:
        """Metrics of the cumulative incidence; with delayed entry C alone, of the cause-specific hazard.

        Slope and ICI would need a regression of the subdistribution and are left out.
        """
        setting, r = self.setting, self.resamples
        if r.data.entry is not None:
            return {names.HARRELL_C: self._c(scores, self.harrell)}
        known = scores.horizons[scores.horizons <= setting.tau]
        risk = incidence_at(scores, known[-1] if len(known) else scores.horizons[0])
        values = {
            names.HARRELL_C: concordance_of_incidence(risk, r, self.harrell, weighted=False),
            names.UNO_C: concordance_of_incidence(risk, r, self.uno, weighted=True),
            names.OE: observed_over_expected(scores, r, setting.main)
            if setting.is_followed(setting.main)
            else self._nothing,
        }
        for t in setting.horizons:
            values[names.at(names.AUC, t)] = (
                accuracy.auc(incidence_at(scores, t), r, t, self._at(t))
                if setting.is_followed(t)
                else self._nothing
            )
        return values | self._brier(scores) | self._net_benefit(scores)

    def _at(self, t: float) -> Floats:
        if t not in self._weights:
            self._weights[t] = self.resamples.status_weights(t)
        return self._weights[t]

    def _c(self, scores: Scores, weight: PairWeights, strata: Array | None = None) -> Floats:
        data, m = replace(self.resamples.data, strata=strata), self.resamples.m
        counts = [pairs.counts(m) for pairs in repeat_pairs(scores, data, weight)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.mean([concordant / comparable for concordant, comparable in counts], axis=0))

    def _brier(self, scores: Scores) -> dict[str, Floats]:
        r, tau = self.resamples, self.setting.tau
        values = {
            names.at(names.BRIER, t): accuracy.brier(scores.at(t), r, t, self._at(t))
            if self.setting.is_followed(t)
            else self._nothing
            for t in self.setting.horizons
        }
        times = scores.horizons[(scores.horizons <= tau) & self.setting.followed(scores.horizons)]
        if len(times) == 0:
            return values | {names.IBS: self._nothing, names.IBS_SKILL: self._nothing}
        reference = accuracy.out_of_fold_kaplan_meier(scores, r, times)
        model, null = (
            accuracy.integrated(
                np.array([accuracy.brier(s[:, :, k], r, t, self._at(t)) for k, t in enumerate(times)]), times
            )
            for s in (scores.survival, reference)
        )
        return values | {names.IBS: model, names.IBS_SKILL: 1 - model / null}

    def _calibration(self, scores: Scores) -> dict[str, Floats]:
        data, t = self.resamples.data, self.setting.main
        found = (names.OE, names.SLOPE, names.ICI, names.E50, names.E90)
        if not self.setting.is_followed(t):
            return {name: self._nothing for name in found}
        each = []
        for s in scores.at(t):
            k = np.isfinite(s)
            if np.ptp(s[k]) < CONSTANT:  # a model without predictors: nothing to calibrate
                return {}
            entry = None if data.entry is None else data.entry[k]
            each.append(
                calibration(
                    s[k], data.time[k], data.event[k], t, entry=entry, multiplicity=self.resamples.m[k]
                )
            )
        return {name: np.mean([getattr(c, name) for c in each], axis=0) for name in found}

    def _net_benefit(self, scores: Scores) -> dict[str, Floats]:
        t, r = self.setting.main, self.resamples
        return {
            names.at(names.NET_BENEFIT, p): accuracy.net_benefit(scores.at(t), r, t, p)
            if self.setting.is_followed(t)
            else self._nothing
            for p in self.setting.thresholds
        }
