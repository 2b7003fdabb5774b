"""Planted traps through the whole study: the first screen of the report must name each of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import stylegan_surv as ss
from stylegan_surv.faces import Chips
from stylegan_surv.gan.formats.provenance import patient_key

N, LAYERS, WIDTH, SIDE = 140, 3, 8, 48
QUICK = ss.StudySettings(repeats=1, permutations=0, n_boot=60, n_jobs=1, final=False)


def chip(face: int, wall: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random picture of a "face" on a wall of the given brightness (0–1)."""
    coarse = np.random.default_rng(face).integers(40, 216, (6, 6, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    outside = ((x / 0.40) ** 2 + (y / 0.52) ** 2 > 1)[..., None]
    noise = rng.normal(0, 4, picture.shape)
    return np.clip(np.where(outside, 60 + 130 * wall, picture) + noise, 0, 255).astype(np.uint8)


def study(root: Path, traps: bool) -> Any:
    """Latents that know the hazard of the face (and, with traps, the site); see the tests for the rest."""
    rng = np.random.default_rng(1)
    site = rng.choice(["North", "South"], N)
    hazard = rng.normal(size=N)
    log_hazard = 2.2 * (site == "South") + 0.2 * hazard if traps else 1.3 * hazard
    w = rng.normal(size=(N, 1, WIDTH)) + 0.1 * rng.normal(size=(N, LAYERS, WIDTH))
    w[:, :, 0] = hazard[:, None] + 0.2 * rng.normal(size=(N, LAYERS))
    w[:, :, 1] += 3.0 * (site == "South")[:, None] if traps else 0.0
    entry = np.where(rng.random(N) < 0.2, 0.05, 0.0) if traps else np.zeros(N)
    death = entry + rng.exponential(np.exp(-log_hazard)) + 1e-3
    end = entry + rng.exponential(2.0, N) + 1e-3
    names = [f"P{i:03d}" for i in range(N)]
    table = pd.DataFrame(
        {
            "patient_id": names, "photo": [f"{n}.png" for n in names], "time": np.minimum(death, end),
            "event": (death <= end).astype(int), "site": site, "entry": entry,
        }
    )  # fmt: skip
    table.to_csv(root / "clinical.csv", index=False)
    level = (log_hazard - log_hazard.min()) / np.ptp(log_hazard)
    walls = level if traps else rng.random(N)
    faces = np.arange(N)
    if traps:
        faces[7], walls[7] = faces[3], walls[3]  # one picture, two patients
    chips = Chips.create(root / "chips", [chip(int(f), b, rng) for f, b in zip(faces, walls)], names)
    synthetic = {"kind": "synthetic"}
    about = {"generator": "none", "provenance": {"generator": synthetic, "encoder": synthetic}}
    latents = ss.Latents.from_arrays(w.astype(np.float32), names, names, about)
    cohort = ss.read_cohort(root / "clinical.csv", check_photos=False)
    return ss.evaluate(latents, cohort, settings=QUICK, chips=chips)


def era_study(root: Path) -> Any:
    """Old pictures look old, and those of long ago have died; the generator was tuned on thirty of the patients."""
    rng = np.random.default_rng(2)
    year = rng.integers(1950, 2010, N)
    w = rng.normal(size=(N, LAYERS, WIDTH))
    w[:, :, 0] += (year[:, None] - 1980) / 10
    death = rng.exponential(10 * np.exp((year - 1980) / 12)) + 1e-3
    end = 2025.0 - year
    names = [f"P{i:03d}" for i in range(N)]
    table = pd.DataFrame({"patient_id": names, "photo": [f"{n}.png" for n in names], "entry_year": year})
    table = table.assign(time=np.minimum(death, end), event=(death <= end).astype(int))
    seen = {
        "kind": "photographs",
        "salt": "s",
        "patients": [patient_key(p, "s") for p in names[:30]],
        "photos": [],
    }
    about = {"generator": "tuned", "provenance": {"generator": seen, "encoder": {"kind": "synthetic"}}}
    latents = ss.Latents.from_arrays(w.astype(np.float32), names, names, about)
    cohort = ss.read_cohort(table, check_photos=False)
    return ss.evaluate(latents, cohort, settings=QUICK)


def first_screen(made: Any, root: Path) -> dict[str, str]:
    """Level of each finding on the page, by title."""
    html = made.report(root / "report.html").read_text()
    part = html[html.index('id="verdict"') : html.index("</section>", html.index('id="verdict"'))]
    found = re.findall(r'<div class="finding (\w+)"><h3>(.*?)</h3>', part)
    return {title: level for level, title in found}


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("trapped")
    return first_screen(study(root, traps=True), root)


def test_background_that_tells_the_outcome(trapped: dict[str, str]) -> None:
    assert trapped["The outcome can be told without the face"] == "alarm"


def test_site_effect(trapped: dict[str, str]) -> None:
    assert any("telling the site apart" in title and level == "alarm" for title, level in trapped.items())
    assert any(title.startswith("The latents betray the site") for title in trapped)


def test_duplicated_patient(trapped: dict[str, str]) -> None:
    assert trapped["Duplicated photographs across patients"] == "alarm"


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("era")
    return first_screen(era_study(root), root)


def test_era_effect(aged: dict[str, str]) -> None:
    assert any(
        "telling the year of entry apart" in title and level == "alarm" for title, level in aged.items()
    )
    assert aged["The outcome can be told without the face"] == "alarm"  # from the year alone
    assert any("betray the year of entry" in title for title in aged)


def test_generator_fine_tuned_on_patients_of_the_study(aged: dict[str, str]) -> None:
    assert aged["The networks had seen patients of this study"] == "alarm"


def test_photographs_dated_after_the_origin(trapped: dict[str, str]) -> None:
    assert trapped["Photographs dated after the origin"] == "caution"


def test_a_sound_study_raises_no_alarm_and_shows_faces_only_when_asked(tmp_path: Path) -> None:
    made = study(tmp_path, traps=False)
    found = first_screen(made, tmp_path)
    assert "data:image" not in (tmp_path / "report.html").read_text()
    assert made.report(tmp_path / "faces.html", faces=True).read_text().count("data:image") == 1
    assert found["The photograph ranks patients by risk better than chance"] == "plain"
    assert "alarm" not in found.values()
    assert "Photographs dated after the origin" not in found


def test_faces_of_a_saved_study_are_shown_when_its_photographs_are_given(tmp_path: Path) -> None:
    made = study(tmp_path, traps=False)
    made.save(tmp_path / "study")
    assert made.portraits is not None
    assert len(made.portraits.lowest) == len(made.portraits.highest) == 8
    page = made.report(tmp_path / "faces.html", faces=True).read_bytes()
    opened = ss.Study.open(tmp_path / "study", chips=Chips.open(tmp_path / "chips"))
    assert opened.report(tmp_path / "again.html", faces=True).read_bytes() == page
