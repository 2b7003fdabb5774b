"""Are our own statistics calibrated? Coverage of the intervals, level of the tests, by simulation.

``python -m benchmarks.metrics_calibration [--part NAME] [--repeats 1000] [--json] [--write]``; ``--write`` stores the
result in benchmarks/results/metrics_calibration.json, which the documentation quotes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stylegan_surv.audit.added_value import rerun
from stylegan_surv.audit.controls import permutation_within
from stylegan_surv.survival.metrics.calibration import a_calibration, d_calibration
from stylegan_surv.survival.metrics.table import concordance, metric_samples
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.nested import GramCV

Floats = NDArray[np.floating]
RESULTS = Path(__file__).parent / "results" / "metrics_calibration.json"
N, TAU = 250, 1.0
LEVEL = 0.95


def patients(n: int, rng: np.random.Generator, censoring: float = 1.2) -> tuple[Outcome, Floats]:
    """Exponential survival, half the patients censored, and two fixed scores [n, 2] of unequal worth."""
    x = rng.normal(size=n)
    death, end = rng.exponential(np.exp(-0.9 * x)), rng.exponential(censoring, n)
    scores = x[:, None] + rng.normal(size=(n, 2)) * [0.7, 1.2]
    return Outcome(np.arange(n), np.minimum(death, end), death <= end), scores


def values(outcome: Outcome, scores: Floats) -> dict[str, tuple[float, float, float]]:
    """Estimate and jackknife interval of C, of Uno's C and of the difference of two C."""
    a, b = (concordance(outcome.time, outcome.event, s) for s in scores.T)
    u = concordance(outcome.time, outcome.event, scores[:, 0], weights="uno", tau=TAU)
    return {
        name: (c.estimate, *c.ci(LEVEL))
        for name, c in (("harrell_c", a), ("uno_c", u), ("delta_c", a.minus(b)))
    }


def bootstrap_values(
    outcome: Outcome, scores: Floats, n_boot: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """The same by the patient bootstrap of the report."""
    frame = pd.concat(
        pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": 0, "model": m, "risk": s})
        for m, s in zip("ab", scores.T)
    )
    samples = metric_samples(frame, outcome, horizons=[TAU], tau=TAU, n_boot=n_boot, seed=seed)
    table = samples.table(LEVEL)["a"]
    found = {name: table[name] for name in ("harrell_c", "uno_c")}
    found["delta_c"] = samples.difference("a", "b", "harrell_c", LEVEL)
    return {name: (v.estimate, v.low, v.high) for name, v in found.items()}  # type: ignore[misc]


def population(rng: np.random.Generator, cohorts: int = 40, n: int = 4000) -> dict[str, float]:
    """The values that infinitely many patients under the same censoring would have."""
    each = [{k: v[0] for k, v in values(*patients(n, rng)).items()} for _ in range(cohorts)]
    return pd.DataFrame(each).mean().to_dict()


def coverage(repeats: int, kind: str, n_boot: int = 1000, seed: int = 0) -> dict[str, dict[str, float]]:
    """Share of the 95 % intervals ("jackknife" or "bootstrap") that hold the population's value."""
    truth = population(np.random.default_rng(seed + 1))
    rng = np.random.default_rng(seed)
    hits: dict[str, list[bool]] = {name: [] for name in truth}
    errors: dict[str, list[float]] = {name: [] for name in truth}
    for i in range(repeats):
        sample = patients(N, rng)
        found = values(*sample) if kind == "jackknife" else bootstrap_values(*sample, n_boot, i)
        for name, (estimate, low, high) in found.items():
            hits[name].append(low <= truth[name] <= high)
            errors[name].append(estimate - truth[name])
    return {
        name: {
            "population": truth[name],
            "coverage": float(np.mean(hits[name])),
            "bias": float(np.mean(errors[name])),
            "sd": float(np.std(errors[name])),
        }
        for name in truth
    }


def goodness_of_fit(repeats: int, n: int = 300, seed: int = 0) -> dict[str, dict[str, float]]:
    """Level and uniformity of D- and A-calibration with the true curves."""
    out = {}
    for name, censoring in (("uncensored", 1e9), ("half censored", 1.0), ("three quarters censored", 0.35)):
        rng = np.random.default_rng(seed)
        p = np.empty((repeats, 2))
        for i in range(repeats):
            x = rng.normal(size=n)
            death, end = rng.exponential(np.exp(-x)), rng.exponential(censoring, n)
            time, event = np.minimum(death, end), death <= end
            hazard = time * np.exp(x)
            p[i] = d_calibration(np.exp(-hazard), event).p, a_calibration(hazard, event).p
        for k, test in enumerate(("d_calibration", "a_calibration")):
            out[f"{test} {name}"] = {
                "level": float(np.mean(p[:, k] < 0.05)),
                "mean_p": float(p[:, k].mean()),
                "kolmogorov": float(np.max(np.abs(np.sort(p[:, k]) - (np.arange(repeats) + 0.5) / repeats))),
            }
    return out


def permutation_level(
    repeats: int, n: int = N, width: int = 320, permutations: int = 19, seed: int = 0
) -> dict[str, float]:
    """Rejections of the added-value test at 5 % where the photographs are independent of everything.

    The whole ridge cross-validation, its choice of the penalty included, is rerun on every permutation. With 19
    permutations p ≤ .05 means that none reaches the observed statistic, so a test stops at the first one that does:
    the same decision, five times as fast.
    """
    rng = np.random.default_rng(seed)
    fold = np.arange(n) % 4
    rejected, nominal = np.zeros(repeats, bool), np.empty(repeats)
    for i in range(repeats):
        outcome, scores = patients(n, rng)
        cv = GramCV(rng.normal(size=(n, width)).astype(np.float32), fold, inner=3, seed=i)
        risk_of: Callable[[Outcome], Floats] = lambda o, cv=cv: cv.out_of_fold_risk(o, 3)  # noqa: E731
        real, _ = rerun(risk_of, outcome, scores, np.arange(n), fold=fold)
        orders = (permutation_within(None, n, rng) for _ in range(permutations))
        rejected[i] = all(
            rerun(risk_of, outcome, scores, order, fold=fold)[0].root < real.root for order in orders
        )
        nominal[i] = real.p_nominal
    return {
        "level": float(rejected.mean()),
        "nominal_level": float(np.mean(nominal < 0.05)),
        "n": n,
        "width": width,
        "permutations": permutations,
    }


PARTS: dict[str, Callable[[int], object]] = {
    "jackknife": lambda repeats: coverage(repeats, "jackknife"),
    "bootstrap": lambda repeats: coverage(repeats, "bootstrap"),
    "goodness_of_fit": goodness_of_fit,
    "permutation_test": permutation_level,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="which simulations (default: all)")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help=f"store the result in {RESULTS.name}")
    arguments = parser.parse_args()
    record = json.loads(RESULTS.read_text(encoding="utf-8")) if arguments.write and RESULTS.exists() else {}
    for part in arguments.part or PARTS:
        record[part] = {"repeats": arguments.repeats, "result": PARTS[part](arguments.repeats)}
        if arguments.write:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record) if arguments.json else json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
