"""Difficult and wrong input through the whole command: one clear message, or a correct result."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import stylegan_surv as ss
from stylegan_surv.cli import main

N, LAYERS, WIDTH = 60, 3, 6


def make(change: Callable[[pd.DataFrame, np.ndarray], None], root: Path) -> list[str]:
    """A study on disk after `change`, and the words of the command."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(N, LAYERS, WIDTH)).astype(np.float32)
    names = [f"P{i:02d}" for i in range(N)]
    death, end = rng.exponential(np.exp(-w[:, 0, 0])) + 0.01, rng.exponential(2.0, N) + 0.01
    table = pd.DataFrame({"patient_id": names, "photo": [f"{n}.png" for n in names]})
    table["time"], table["event"] = np.minimum(death, end), (death <= end).astype(int)
    table["age"], table["entity"] = rng.normal(60, 10, N), rng.choice(["lung", "breast"], N)
    table["site"] = "North"
    change(table, w)
    table.to_csv(root / "clinical.csv", index=False)
    synthetic = {"kind": "synthetic"}
    about = {"generator": "none", "provenance": {"generator": synthetic, "encoder": synthetic}}
    ss.Latents.from_arrays(w, names, names, about).save(root / "latents")
    return [
        "fit",
        "--latents",
        str(root / "latents"),
        "--cohort",
        str(root / "clinical.csv"),
        "-o",
        str(root / "out"),
    ]


def run(words: list[str]) -> tuple[int, str]:
    """Exit code and what the command said on standard error."""
    quick = ["--repeats", "1", "--permutations", "0", "--model", "cox-ridge", "--jobs", "1"]
    with CliRunner().isolation() as streams, patch.object(sys, "argv", ["stylegan-surv", *words, *quick]):
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), streams[2].getvalue().decode()


def no_change(table: pd.DataFrame, w: np.ndarray) -> None:
    pass


def all_censored(table: pd.DataFrame, w: np.ndarray) -> None:
    table["event"] = 0


def one_event(table: pd.DataFrame, w: np.ndarray) -> None:
    table["event"] = [1] + [0] * (N - 1)


def nan_latents(table: pd.DataFrame, w: np.ndarray) -> None:
    w[4, 1, 2] = np.nan


def death_on_day_0(table: pd.DataFrame, w: np.ndarray) -> None:
    table.loc[0, ["time", "event"]] = (0.0, 1)


def constant_columns(table: pd.DataFrame, w: np.ndarray) -> None:
    table["age"] = 60.0
    w[:, 2] = 0.5


def tied_times(table: pd.DataFrame, w: np.ndarray) -> None:
    table["time"] = np.ceil(table["time"])


def small_entity(table: pd.DataFrame, w: np.ndarray) -> None:
    table.loc[:2, "entity"] = "brain"


def missing_ages(table: pd.DataFrame, w: np.ndarray) -> None:
    table.loc[::3, "age"] = np.nan


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        (all_censored, [], "event"),
        (one_event, [], "event"),
        (nan_latents, [], "finite"),
        (no_change, ["--folds", "50"], "50"),
        (no_change, ["--compare", "face-recognition"], "--photos"),
        (no_change, ["--compare", "palmistry"], "palmistry"),
        (no_change, ["--clinical", "stage"], "no column 'stage'"),
        (no_change, ["--config", "nowhere.yaml"], "nowhere.yaml"),
        (constant_columns, ["--clinical", "age,entity"], "'age': all 60 patients"),
    ],
)
def test_wrong_input_ends_in_one_message(
    change: Callable[[pd.DataFrame, np.ndarray], None], more: list[str], said: str, tmp_path: Path
) -> None:
    code, text = run(make(change, tmp_path) + more)
    assert code == 2, text
    assert said in text
    assert "Traceback" not in text
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (no_change, []),  # no clinical column, no stratum, one site
        (no_change, ["--clinical", "age,entity", "--strata", "site"]),
        (constant_columns, ["--clinical", "entity"]),
        (tied_times, ["--clinical", "age"]),
        (small_entity, ["--clinical", "age,entity", "--strata", "entity"]),
        (missing_ages, ["--clinical", "age"]),
    ],
)
def test_difficult_input_gives_a_report(
    change: Callable[[pd.DataFrame, np.ndarray], None], more: list[str], tmp_path: Path
) -> None:
    code, text = run(make(change, tmp_path) + more)
    assert code == 0, text
    found = json.loads((tmp_path / "out/metrics.json").read_text(), parse_constant=pytest.fail)
    c = found["models"]["photo"]["harrell_c"]
    assert 0.5 < c["low"] < c["estimate"] < c["high"] <= 1
    page = (tmp_path / "out/report.html").read_text()
    assert not re.search(r"\bnan\b", page, flags=re.I)
    assert ("clinical" in found["models"]) == ("--clinical" in more)


def test_a_death_on_day_0(tmp_path: Path) -> None:
    """A follow-up of nothing is a mistake in the table or a death at once; either way the row is named."""
    code, text = run(make(death_on_day_0, tmp_path))
    assert code in (0, 2)
    if code == 2:
        assert "P00" in text or "row" in text
    else:
        assert json.loads((tmp_path / "out/metrics.json").read_text())["cohort"]["flow"]["patients"] == N


def test_a_configuration_file_gives_the_options_and_the_command_line_wins(tmp_path: Path) -> None:
    words = make(no_change, tmp_path)
    config = tmp_path / "study.yaml"
    config.write_text("title: A plan\ntried: 1\nclinical: [age, entity]\nfolds: 4\ncolumn: {sex: site}\n")
    code, text = run([*words, "--config", str(config), "--clinical", "age"])
    assert code == 0, text
    page = (tmp_path / "out/report.html").read_text()
    assert "<title>A plan</title>" in page
    assert "study.yaml" in page
    card = json.loads((tmp_path / "out/model/card.json").read_text())["config"]
    assert card["clinical"] == ["age"]
    assert card["folds"] == 4
    assert card["tried"] == 1
    assert card["file"] == "study.yaml"
    config.write_text("clinicals: [age]\n")
    code, text = run([*words, "--config", str(config)])
    assert code == 2
    assert "clinicals" in text


def test_the_shipped_configuration_is_one_of_the_command(tmp_path: Path) -> None:
    """Its options are known; it stops at the first column that this table does not have."""
    shipped = Path(__file__).parents[1] / "configs/legislators.yaml"
    code, text = run([*make(no_change, tmp_path), "--config", str(shipped), "--compare", ""])
    assert code == 2
    assert "no column 'sex'" in text
