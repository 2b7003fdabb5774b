"""How long the verdict takes, on one thread.

``python -m benchmarks.metrics_speed [--json] [--write]``: 1,000 bootstraps of C at n = 20,000, and the whole report
(nested cross-validation, metrics, audit without permutations, page) at n = 2,000 × p = 2,560.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stylegan_surv.report import render
from stylegan_surv.survival._pairs import Pairs
from stylegan_surv.survival._resamples import multiplicities
from stylegan_surv.survival.audit import audit
from stylegan_surv.survival.design import strata_from
from stylegan_surv.survival.metrics import concordance, default_horizons, evaluation_times, oof_metrics
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validate import make_folds, nested_cv

RESULTS = Path(__file__).parent / "results" / "metrics_speed.json"


def bootstraps(n: int = 20_000, resamples: int = 1000) -> dict[str, float]:
    """Seconds for C with its standard error, and for all its bootstraps; the two standard errors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    death, end = rng.exponential(np.exp(-x)), rng.exponential(0.65, n)
    time_, event = np.minimum(death, end), death <= end
    start = time.perf_counter()
    c = concordance(time_, event, x)
    single = time.perf_counter() - start
    start = time.perf_counter()
    m = multiplicities(n, resamples, seed=0)
    concordant, comparable = Pairs(time_, event, x, None, None, np.ones((n, 1))).counts(m)
    seconds = time.perf_counter() - start
    return {
        "n": n,
        "events": int(event.sum()),
        "resamples": resamples,
        "seconds": seconds,
        "seconds_single_with_se": single,
        "jackknife_se": c.se,
        "bootstrap_se": float(np.std((concordant / comparable)[1:])),
    }


def simulated(n: int, p: int, seed: int = 0) -> tuple[np.ndarray, Outcome, pd.DataFrame]:
    """Latents that carry age, risk and the year; follow-up that ends on one calendar day."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 60))
    x = (z @ rng.normal(size=(60, p)) / 8 + rng.normal(size=(n, p))).astype(np.float32)
    year = rng.uniform(1960, 2015, n)
    x[:, : p // 20] += ((year - 1988) / 15)[:, None].astype(np.float32)
    age = 60 + 10 * (0.6 * z[:, 0] + 0.8 * rng.normal(size=n))
    stage = rng.integers(1, 4, n)
    risk = 0.5 * z[:, 0] + 0.6 * z[:, 1] + 0.5 * (stage - 2) + 0.04 * (age - 60) - (year - 1988) / 25
    death = rng.exponential(8 * np.exp(-risk))
    end = np.minimum(2025 - year, rng.exponential(30, n))
    outcome = Outcome([f"p{i:05d}" for i in range(n)], np.minimum(death, end), death <= end)
    table = pd.DataFrame({"patient_id": outcome.patient_id, "age": age, "stage": stage.astype(str)})
    table["sex"], table["site"] = rng.choice(["f", "m"], n), rng.choice(["North", "South", "East"], n)
    table["entry_year"] = year
    return x, outcome, table


def whole_report(n: int = 2000, shape: tuple[int, int] = (10, 256), repeats: int = 3) -> dict[str, float]:
    """Seconds of every part of a study, permutations apart."""
    x, outcome, table = simulated(n, shape[0] * shape[1])
    clinical, strata = ["age", "sex", "stage"], strata_from("entry_year:10", table)
    fold = make_folds(outcome, 5, repeats=repeats)
    laps, last = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        laps[name], last = now - last, now

    horizons = default_horizons(outcome)
    oof = nested_cv(
        ["cox-ridge"], x, outcome, clinical=table[clinical], folds=fold, horizons=evaluation_times(outcome)
    )
    lap("nested_cv")
    metrics = oof_metrics(oof, outcome, strata=strata, horizons=horizons)
    lap("metrics")
    options: dict[str, Any] = {"clinical": clinical, "strata": strata, "shape": shape, "n_permutations": 0}
    metrics |= audit(x, outcome, oof.frame, table=table, fold=fold[0], **options)
    lap("audit")
    study = SimpleNamespace(
        metrics=metrics, oof=oof.frame, outcome=outcome, latents_info={}, provenance={}, strip=None,
        cohort=SimpleNamespace(flags=(), time_unit="years", time_origin="", patients=table, covariates=clinical),
        config={"clinical": clinical}, flow={"patients": n, "events": int(outcome.event.sum())},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        page = render(study, Path(folder) / "report.html")  # type: ignore[arg-type]
        laps["page_mb"] = page.stat().st_size / 1e6
    lap("render")
    return {**laps, "seconds": sum(v for k, v in laps.items() if k != "page_mb"), "n": n, "p": x.shape[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help=f"store the result in {RESULTS.name}")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        record: dict[str, Any] = {"bootstraps": bootstraps(), "report": whole_report()}
    record["ratio"] = {
        "bootstraps_to_goal": record["bootstraps"]["seconds"] / 10,
        "report_to_goal": record["report"]["seconds"] / 180,
    }
    if arguments.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record) if arguments.json else json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
