"""Planted studies: how often the first screen of a report names what was planted, and how often it cries wolf.

    python -m benchmarks.verdict --json [--full]

Every study is simulated latents and a clinical table, cross-validated and audited as ``stylegan-surv fit`` does it,
without permutations and without the final model. ``expected`` was written before the rules that it holds to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import stylegan_surv as ss
from stylegan_surv.report.finding import Finding
from stylegan_surv.report.verdict import findings
from stylegan_surv.study import StudySettings

N, LAYERS, WIDTH = 300, 3, 8
QUICK = StudySettings(repeats=1, permutations=0, n_boot=60, n_jobs=1, edited=0, final=False)
Planted = tuple[pd.DataFrame, np.ndarray, list[str]]


def patients(rng: np.random.Generator, log_hazard: np.ndarray) -> pd.DataFrame:
    """Weibull deaths and uniform censoring, with age, sex and the circumstances, none of which matter."""
    n = len(log_hazard)
    death = 4 * rng.weibull(1.2, n) * np.exp(-log_hazard / 1.2) + 1e-3
    end = rng.uniform(1, 12, n)
    names = [f"P{i:04d}" for i in range(n)]
    return pd.DataFrame(
        {
            "patient_id": names, "photo": [f"{name}.png" for name in names], "time": np.minimum(death, end),
            "event": (death <= end).astype(int), "age": rng.normal(60, 10, n).clip(20, 95),
            "sex": rng.choice(["f", "m"], n), "site": rng.choice(["A", "B", "C"], n),
            "camera": rng.choice(["x", "y"], n), "entry_year": rng.integers(1990, 2015, n),
        }
    )  # fmt: skip


def latents(rng: np.random.Generator, shown: np.ndarray) -> np.ndarray:
    """W+ whose first coordinate shows something, [n, layers, width]."""
    w = rng.normal(size=(len(shown), 1, WIDTH)) + 0.1 * rng.normal(size=(len(shown), LAYERS, WIDTH))
    w[:, :, 0] = shown[:, None] + 0.3 * rng.normal(size=(len(shown), LAYERS))
    return np.asarray(w, np.float32)


def clean(rng: np.random.Generator) -> Planted:
    """The photograph tells the hazard, and nothing else is odd."""
    x = rng.normal(size=N)
    return patients(rng, x), latents(rng, x), ["age", "sex"]


def noise(rng: np.random.Generator) -> Planted:
    """The photograph tells nothing."""
    return patients(rng, rng.normal(size=N)), latents(rng, rng.normal(size=N)), ["age", "sex"]


def era(name: str) -> Callable[[np.random.Generator], Planted]:
    """Old pictures look old, and patients of long ago have died sooner; the year under a name, or as dates."""

    def plant(rng: np.random.Generator) -> Planted:
        year = rng.integers(1950, 2010, N)
        past = (1980 - year) / 17
        table = patients(rng, 1.3 * past).drop(columns="entry_year")
        if name == "dates":
            dates = [f"{y}-06-15" for y in year]
            table = table.assign(photo_date=dates, origin_date=dates)
        else:
            table[name] = year
        return table, latents(rng, 2 * past), ["age", "sex"]

    return plant


def site(rng: np.random.Generator) -> Planted:
    """One of two hospitals has other cameras and sicker patients; its column has a name that nobody knows."""
    south = rng.random(N) < 0.5
    table = patients(rng, 1.8 * south).drop(columns="site").assign(clinic=np.where(south, "South", "North"))
    return table, latents(rng, 2.5 * south), ["age", "sex"]


def future(rng: np.random.Generator) -> Planted:
    """The number of visits is among the clinical variables."""
    x = rng.normal(size=N)
    table = patients(rng, x)
    return table.assign(visits=np.ceil(4 * table["time"])), latents(rng, x), ["age", "visits"]


# level and a part of the title of what the first screen must say
STUDIES: dict[str, tuple[Callable[[np.random.Generator], Planted], tuple[tuple[str, str], ...]]] = {
    "noise": (noise, (("plain", "No prognostic information was shown"),)),
    "era_entry_year": (era("entry_year"), (("alarm", "comes from telling the year of entry apart"),)),
    "era_diagnosis_year": (
        era("diagnosis_year"),
        (("alarm", "comes from telling the diagnosis year apart"),),
    ),
    "era_dates": (era("dates"), (("alarm", "comes from telling the year of the photograph apart"),)),
    "site": (site, (("alarm", "comes from telling the clinic apart"),)),
    "future": (future, (("alarm", "visits may know the future"),)),
}


def first_screen(planted: Planted) -> list[Finding]:
    """What the report of a planted study says first."""
    table, w, clinical = planted
    names = list(table["patient_id"])
    synthetic = {"kind": "synthetic"}
    about = {"generator": "none", "provenance": {"generator": synthetic, "encoder": synthetic}}
    made = ss.evaluate(
        ss.Latents.from_arrays(w, names, names, about),
        ss.read_cohort(table, check_photos=False, time_origin="diagnosis"),
        clinical=clinical,
        settings=QUICK,
    )
    cohort = made.metrics["cohort"]
    flow = {**cohort["flow"], "late_photos": cohort["late_entries"]}
    undated = [
        flag for flag in made.facts.flags if "no date" not in flag
    ]  # said of every table without dates
    return findings(made.metrics, flow, undated, made.provenance)


def named(study: str, seeds: range) -> dict[str, int]:
    """In how many of the seeds each expected sentence comes."""
    plant, expected = STUDIES[study]
    counts = {title: 0 for _, title in expected}
    for seed in seeds:
        said = first_screen(plant(np.random.default_rng(seed)))
        for level, title in expected:
            counts[title] += any(f.level == level and title in f.title for f in said)
    return counts


def cried_wolf(seeds: range) -> dict[str, Any]:
    """Shares of clean studies with any alarm, and with any caution, and what was said."""
    alarm, caution, titles = 0, 0, {}
    for seed in seeds:
        said = [
            f for f in first_screen(clean(np.random.default_rng(seed))) if f.level in ("alarm", "caution")
        ]
        alarm += any(f.level == "alarm" for f in said)
        caution += any(f.level == "caution" for f in said)
        for f in said:
            titles[f.title] = titles.get(f.title, 0) + 1
    return {"alarm": alarm / len(seeds), "caution": caution / len(seeds), "titles": titles}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument(
        "--full", action="store_true", help="20 seeds of each study and 100 clean ones; else 3 and 10"
    )
    asked = parser.parse_args()
    seeds, clean_seeds = (range(20), range(100)) if asked.full else (range(3), range(10))
    found = {name: named(name, seeds) for name in STUDIES}
    wolf = cried_wolf(clean_seeds)
    ratio = {name: min(counts.values()) / len(seeds) for name, counts in found.items()}
    record = {"ratio": {**ratio, "clean_alarm": wolf["alarm"], "clean_caution": wolf["caution"]},
              "said_of_clean": wolf["titles"], "seeds": len(seeds), "clean": len(clean_seeds)}  # fmt: skip
    print(json.dumps(record, indent=None if asked.json else 1))


if __name__ == "__main__":
    main()
