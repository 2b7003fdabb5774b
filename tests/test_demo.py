"""The demo on simulated patients: a small one always, the promise over twenty seeds as a slow test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stylegan_surv.demo import DemoSettings, demo


@pytest.mark.parametrize("truth", ["signs", "latent"])
def test_a_small_demo_finds_more_than_chance(tmp_path: Path, truth: str) -> None:
    command = ["demo", "-o", str(tmp_path), "--n", "150", "--permutations", "5", "--truth", truth, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "stylegan_surv", *command], capture_output=True, text=True, check=True
    )
    record = json.loads(done.stdout.splitlines()[-1])
    expected = {"photo_c", "clinical_c", "both_c", "oracle_c", "score_cosine", "pattern_cosine", "seconds"}
    assert expected <= set(record)
    assert record["oracle_c"] > record["photo_c"]
    assert record["oracle_c"] > 0.65
    if truth == "latent":  # so few patients do not show what the generator has never drawn
        assert record["photo_c"] > 0.5
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_sixty_percent_of_the_oracle_over_twenty_seeds(tmp_path: Path) -> None:
    rows = [
        demo(tmp_path / str(s), DemoSettings(seed=s, truth="latent", models=("cox-ridge",), permutations=0))[
            0
        ]
        for s in range(20)
    ]
    photo, oracle = (np.mean([getattr(r, k) for r in rows]) for k in ("photo_c", "oracle_c"))
    assert (photo - 0.5) / (oracle - 0.5) >= 0.6


@pytest.mark.slow
def test_permuted_outcomes_average_one_half(tmp_path: Path) -> None:
    found, _, _ = demo(tmp_path, DemoSettings(models=("cox-ridge",), permutations=100))
    assert found.permuted_c == pytest.approx(0.5, abs=0.01)
