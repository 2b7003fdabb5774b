"""How long the verdict takes, on one thread.

``python -m benchmarks.metrics_speed [--part NAME] [--json] [--write]``: 1,000 bootstraps of C at n = 20,000, and the
whole report (three repeats of nested cross-validation, metrics with 1,000 resamples, audit without permutations, final
model, page) at n = 2,000 × p = 2,560.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import stylegan_surv as ss
from stylegan_surv.survival.metrics.pairs import Pairs
from stylegan_surv.survival.metrics.resamples import multiplicities
from stylegan_surv.survival.metrics.table import concordance
from stylegan_surv.survival.outcome import Outcome

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


def whole_report(n: int = 2000, shape: tuple[int, int] = (10, 256)) -> dict[str, float]:
    """Seconds of one processor for a study from latents to the page, the final model included, permutations apart."""
    x, outcome, table = simulated(n, shape[0] * shape[1])
    table = table.assign(
        time=outcome.time, event=outcome.event.astype(int), photo=table["patient_id"] + ".png"
    )
    names = list(table["patient_id"])
    latents = ss.Latents.from_arrays(x.reshape(n, *shape), names, names, {"generator": "none"})
    cohort = ss.read_cohort(table, check_photos=False)
    start = time.process_time()
    study = ss.evaluate(
        latents,
        cohort,
        clinical=["age", "sex", "stage"],
        settings=ss.StudySettings(
            strata="entry_year:10", permutations=0, n_jobs=1
        ),  # one process is measured
    )
    evaluated = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        size = study.report(Path(folder) / "report.html").stat().st_size
    end = time.process_time()
    return {"n": n, "p": x.shape[1], "seconds": end - start, "page": end - evaluated, "page_mb": size / 1e6}


PARTS = {"bootstraps": bootstraps, "report": whole_report}
GOALS = {"bootstraps": 10.0, "report": 180.0}  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="which of them (default: both)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help=f"store the result in {RESULTS.name}")
    arguments = parser.parse_args()
    record: dict[str, Any] = {}
    if arguments.write and RESULTS.exists():
        record = json.loads(RESULTS.read_text(encoding="utf-8"))
    for part in arguments.part or PARTS:
        with threadpool_limits(1):
            record[part] = PARTS[part]()
        record["ratio"] = {f"{k}_to_goal": record[k]["seconds"] / GOALS[k] for k in PARTS if k in record}
        if arguments.write:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record) if arguments.json else json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
