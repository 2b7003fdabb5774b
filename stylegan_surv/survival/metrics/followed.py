"""How far the follow-up reaches: beyond it nothing is estimated, and the reason is said instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stylegan_surv._types import Bools, Floats
from stylegan_surv.survival.metrics.censoring import censoring_survival
from stylegan_surv.survival.metrics.kaplan_meier import at_risk

if TYPE_CHECKING:
    from stylegan_surv.survival.outcome import Outcome

LEAST_AT_RISK = 10  # patients under observation that an estimate at a time needs
LEAST_UNCENSORED = (
    0.05  # G below which inverse-probability weights exceed 20 and a few patients are everything
)


def is_followed(outcome: Outcome, times: Sequence[float] | Floats) -> Bools:
    """Whether an estimate may be given at each of the times; shape (T,).

    At least 10 patients are under observation there, and the probability G of being so just after it is at least .05
    (with delayed entry, of its largest value: it is known up to a constant then).
    """
    number, share = _support(outcome, np.asarray(times, float))
    return np.asarray((number >= LEAST_AT_RISK) & (share >= LEAST_UNCENSORED))


def not_followed(outcome: Outcome, times: Sequence[float]) -> Mapping[str, str]:
    """Why there is no estimate, by the time as text; nothing for times within the follow-up.

    Examples
    --------
    >>> from stylegan_surv.survival.outcome import Outcome
    >>> not_followed(Outcome(["a", "b"], [1.0, 2.0], [1, 0]), [1.5])
    {'1.5': '1 patients are under observation then; an estimate needs 10'}
    """
    found = {}
    for t, number, share in zip(times, *_support(outcome, np.asarray(times, float))):
        if number < LEAST_AT_RISK:
            found[f"{t:g}"] = (
                f"{number:.0f} patients are under observation then; an estimate needs {LEAST_AT_RISK}"
            )
        elif share < LEAST_UNCENSORED:
            found[f"{t:g}"] = (
                f"the probability of being followed beyond it is G = {share:.3f}; an estimate needs "
                f"{LEAST_UNCENSORED:g}"
            )
    return found


def _support(outcome: Outcome, times: Floats) -> tuple[Floats, Floats]:
    """Patients under observation at each time, and G just after it as a share of its largest value."""
    number = at_risk(outcome.time, outcome.entry, np.ones((len(outcome), 1)), times)[:, 0]
    g = censoring_survival(outcome.time, outcome.event, entry=outcome.entry)
    return number, g.at(np.nextafter(times, np.inf), left=True)[:, 0] / max(float(g.values.max()), 1.0)
