"""Does `classify` read faces or cameras? Planted illness, planted cameras and no illness at all, with a known truth.

``python -m benchmarks.classify [--json] [--full] [--seeds N]`` prints ``ratio.planted.{auc,observer_auc,oracle_auc}``,
``ratio.camera.{auc,believable}`` and ``ratio.null.auc``, each with what it rests on beside it.

Everybody is a generated face, painted (a tint of the skin, a shadow beneath the eyes) after one and the same
resampling; controls have doses ~ N(0, 1), cases N(δ, 1), where δ gives the dose itself an AUC of .80. *planted*: the
network through the camera, beside an observer, a small network trained from nothing on fresh painted faces and their
doses. *camera*: faces alike, but one property of the file or the picture differs between the classes. *null*: fresh
cohorts of latents whose classes are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from scipy.stats import norm
from torch import nn

import stylegan_surv as ss
from stylegan_surv.classify import measures
from stylegan_surv.classify.folds import set_folds
from stylegan_surv.classify.match import match
from stylegan_surv.classify.people import read_people
from stylegan_surv.classify.ridge import cross_validated
from stylegan_surv.classify.study import StudySettings, classify
from stylegan_surv.classify.training import TrainSettings
from stylegan_surv.faces import photograph
from stylegan_surv.simulate import draw, sample_w

SIDE = 160  # of the photographs, pixels
ORACLE_AUC = 0.80
DELTA = float(np.sqrt(2) * norm.ppf(ORACLE_AUC))
TINT = np.array([-0.05, 0.03, 0.05])  # per dose: less red, more blue, shares of the range
SHADOW = -0.12  # per dose: darker
PSI = 0.8  # truncation of the faces
OBSERVER_PX, OBSERVER_PASSES = 64, 8

Shot = Callable[[Image.Image, bool], tuple[Image.Image, int]]


@dataclass(frozen=True)
class Sizes:
    """Sizes: people of each class, faces for the observer, seeds of cameras, cohorts without signal."""

    planted: int
    observer: tuple[int, ...]
    camera: int
    seeds: int
    null: int
    null_people: int


SMALL = Sizes(planted=150, observer=(240, 2000), camera=40, seeds=1, null=40, null_people=100)
FULL = Sizes(planted=1000, observer=(1600, 20_000), camera=100, seeds=20, null=1000, null_people=100)


def spot(x: float, y: float, wide: float, high: float, side: int) -> np.ndarray:
    """A soft ellipse, 1 in its middle."""
    at = (np.arange(side) + 0.5) / side
    return np.exp(-(((at[None] - x) / wide) ** 2) - ((at[:, None] - y) / high) ** 2)[..., None]


def paint(pixels: np.ndarray, dose: float) -> np.ndarray:
    """A face with a signed amount of illness."""
    side = len(pixels)
    skin = spot(0.5, 0.6, 0.22, 0.28, side) * TINT
    shadow = (spot(0.38, 0.53, 0.07, 0.03, side) + spot(0.62, 0.53, 0.07, 0.03, side)) * SHADOW
    return np.clip(np.round((pixels / 255 + dose * (skin + shadow)) * 255), 0, 255).astype(np.uint8)


def faces(n: int, seed: int, dose: np.ndarray, side: int = SIDE) -> list[np.ndarray]:
    """Photographed and painted faces of ``n`` people."""
    generator = ss.load_generator("synthetic-64")
    found = []
    for start in range(0, n, 200):
        w = sample_w(generator, min(200, n - start), 1000 * seed + start // 200, PSI)
        for k, face in enumerate(draw(generator, w), start):
            shot = Image.fromarray(photograph(face, seed=seed, index=k)).resize(
                (side, side), Image.Resampling.BICUBIC
            )
            found.append(paint(np.asarray(shot), float(dose[k])))
    return found


def same(image: Image.Image, case: bool) -> tuple[Image.Image, int]:
    """One camera for all."""
    return image, 85


def _file(image: Image.Image, case: bool) -> tuple[Image.Image, int]:
    return image, 70 if case else 92


def _background(image: Image.Image, case: bool) -> tuple[Image.Image, int]:
    """The cases' ward has a darker wall: everything beyond a generous ellipse around the head."""
    pixels = np.asarray(image, float)
    wall = 1 - np.clip(3 * spot(0.5, 0.5, 0.38, 0.48, len(pixels)), 0, 1)
    return Image.fromarray(np.clip(pixels - 70 * wall * case, 0, 255).astype(np.uint8)), 85


def _framing(image: Image.Image, case: bool) -> tuple[Image.Image, int]:
    """The cases stand nearer; both are cut out of a wider picture of one size."""
    margin = 8 if case else 20
    wide = Image.new("RGB", (SIDE + 2 * margin,) * 2, (128, 128, 128))
    wide.paste(image, (margin, margin))
    return wide.resize((SIDE, SIDE), Image.Resampling.BICUBIC), 85


def _resolution(image: Image.Image, case: bool) -> tuple[Image.Image, int]:
    side = 140 if case else SIDE
    return image.resize((side, side), Image.Resampling.BICUBIC), 85


def _sharpening(image: Image.Image, case: bool) -> tuple[Image.Image, int]:
    return (image.filter(ImageFilter.UnsharpMask(2, 120, 0)) if case else image), 85


CAMERAS: dict[str, Shot] = {
    "file": _file,
    "background": _background,
    "framing": _framing,
    "resolution": _resolution,
    "sharpening": _sharpening,
}


def write(folder: Path, n: int, seed: int, delta: float, shot: Shot) -> tuple[pd.DataFrame, np.ndarray]:
    """``n`` cases and ``n`` controls as files, their table and their doses."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 5])
    case = np.arange(2 * n) % 2 == 0
    dose = rng.standard_normal(2 * n) + delta * case
    rows = []
    for k, face in enumerate(faces(2 * n, seed, dose)):
        image, quality = shot(Image.fromarray(face), bool(case[k]))
        image.save(folder / f"p{k:05d}.jpg", "JPEG", quality=quality)
        rows.append((f"p{k:05d}", f"p{k:05d}.jpg", "case" if case[k] else "control"))
    table = pd.DataFrame(rows, columns=["patient_id", "photo", "group"])
    age, sex = np.round(rng.normal(60, 8, n), 1), rng.choice(["F", "M"], n)
    table["age"], table["sex"] = np.repeat(age, 2), np.repeat(sex, 2)
    return table, dose


class Observer(nn.Module):
    """A small network that reads the dose."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (3, 24, 48, 96), []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(widths[-1] * 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Dose of images [n, 3, 64, 64]."""
        return self.head(F.adaptive_avg_pool2d(self.body(x), 4).flatten(1))[:, 0]


def observed(n: int, test: torch.Tensor, seed: int) -> np.ndarray:
    """Doses of test images, as read by an observer that was trained on ``n`` fresh faces."""
    dose = np.random.default_rng([seed, 6]).normal(DELTA / 2, np.sqrt(1 + DELTA**2 / 4), n)
    pixels = np.stack(faces(n, seed + 500, dose, OBSERVER_PX))
    x = torch.from_numpy(pixels).movedim(-1, 1)
    y = torch.from_numpy((dose - dose.mean()) / dose.std()).float()
    torch.manual_seed(seed)
    network = Observer()
    passes = max(OBSERVER_PASSES, round(20_000 / n))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, passes * (n // 32 + 1))
    for _ in range(passes):
        for rows in torch.randperm(n).split(32):
            batch = x[rows].float() / 127.5 - 1
            batch = batch.flip(3) if torch.rand(()) < 0.5 else batch
            loss = F.mse_loss(network(batch), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        return np.concatenate([network(part).numpy() for part in test.split(64)])


def planted(sizes: Sizes, work: Path) -> dict[str, Any]:
    """The network, the observers and the dose on the same people and folds."""
    table, dose = write(work / "photos", sizes.planted, 1, DELTA, same)
    matched = match(read_people(table, work / "photos"))
    settings = StudySettings(train=TrainSettings(seeds=1, copies=2), resamples=400)
    found = classify(matched, work / "study", settings)
    scores = found.scores
    place = {name: k for k, name in enumerate(table["patient_id"])}
    rows = np.array([place[name] for name in scores["patient_id"]])
    case, sets, fold = (scores["group"] == "case").to_numpy(), scores["set"].to_numpy(), found.fold
    m = measures.multiplicities(sets, 400)

    def interval(score: np.ndarray) -> dict[str, float]:
        return vars(measures.auc_interval(measures.auc(case, score, fold, m), crossed=False))

    opened = [
        Image.open(work / "photos" / table["photo"].iloc[k], formats=["PNG", "JPEG"]).resize(
            (OBSERVER_PX,) * 2, Image.Resampling.BOX
        )
        for k in rows
    ]
    test = (
        torch.from_numpy(np.stack([np.asarray(image) for image in opened])).movedim(-1, 1).float() / 127.5 - 1
    )
    seen = {n: interval(observed(n, test, 2)) for n in sizes.observer}
    main = found.arms["network"].auc
    return {
        "auc": main.estimate,
        "low": main.low,
        "high": main.high,
        "observer_auc": seen[sizes.observer[-1]]["estimate"],
        "oracle_auc": interval(dose[rows])["estimate"],
        "observers": {str(n): value for n, value in seen.items()},
        "face_numbers": found.arms["face numbers"].auc.estimate,
        "believable": found.verdict.believable,
        "people": len(scores),
    }


def camera(sizes: Sizes, work: Path) -> dict[str, Any]:
    """Faces alike, cameras not: AUC of the main arm, and the share that is called believable; clean signs beside it."""
    shots = {**CAMERAS, "clean": same}
    rows: dict[str, list[tuple[float, bool]]] = {name: [] for name in shots}
    for name, shot in shots.items():
        for seed in range(sizes.seeds):
            place = work / f"{name}-{seed}"
            table, _ = write(
                place / "photos", sizes.camera, 50 + seed, DELTA if name == "clean" else 0.0, shot
            )
            settings = StudySettings(network=False, resamples=400, seed=seed, train=TrainSettings(copies=2))
            found = classify(match(read_people(table, place / "photos")), place / "study", settings)
            rows[name].append((float(found.arms[found.main].auc.estimate or 0.5), found.verdict.believable))
    by = {
        name: {"auc": float(np.mean([a for a, _ in r])), "believable": float(np.mean([b for _, b in r]))}
        for name, r in rows.items()
    }
    bad = [by[name] for name in CAMERAS]
    return {
        "auc": float(np.mean([b["auc"] for b in bad])),
        "believable": float(np.mean([b["believable"] for b in bad])),
        "by": by,
    }


def null(sizes: Sizes) -> dict[str, Any]:
    """Fresh cohorts of latents without a difference: mean AUC with its standard error, and coverage of .5."""
    generator = ss.load_generator("synthetic-64")
    values, covered, n = [], [], sizes.null_people
    for seed in range(sizes.null):
        w = sample_w(generator, 2 * n, 90_000 + seed, 1.0)
        sets, case = np.arange(2 * n) // 2, np.arange(2 * n) % 2 == 0
        fold = set_folds(sets, 5, seed)
        logit = cross_validated(w.astype(float), case, sets, fold, scale=False, seed=seed).logit
        samples = measures.auc(case, logit, fold, measures.multiplicities(sets, 300, seed))
        found = measures.auc_interval(samples, crossed=True)
        values.append(float(samples[0]))
        covered.append(bool((found.low or 0) <= 0.5 <= (found.high or 1)))
    se = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return {
        "auc": float(np.mean(values)),
        "se": se,
        "covered": float(np.mean(covered)),
        "cohorts": len(values),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the sizes of the docs (hours)")
    parser.add_argument("--part", action="append", choices=("planted", "camera", "null"), help="default: all")
    parser.add_argument("--seeds", type=int, help="cohorts of each camera")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    sizes = FULL if given.full else SMALL
    if given.seeds:
        sizes = Sizes(**{**vars(sizes), "seeds": given.seeds})
    parts = given.part or ["planted", "camera", "null"]
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            work = Path(folder) / part
            record[part] = (
                null(sizes) if part == "null" else {"planted": planted, "camera": camera}[part](sizes, work)
            )
    wanted = {
        "planted": ("auc", "observer_auc", "oracle_auc"),
        "camera": ("auc", "believable"),
        "null": ("auc",),
    }
    record["ratio"] = {part: {name: record[part][name] for name in wanted[part]} for part in parts}
    print(json.dumps(record, indent=None if given.json else 1))


if __name__ == "__main__":
    main()
