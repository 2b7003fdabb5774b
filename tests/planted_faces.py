"""Photographs of simulated people with an illness painted on them, for tests of the case-control study.

The paint is a tint of the face and a shadow beneath the eyes, at fixed places of a generated face; everybody passes
through the same resampling, painted or not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import norm

import stylegan_surv as ss
from stylegan_surv.faces import photograph
from stylegan_surv.simulate import draw, sample_w

SIDE = 160  # of the photographs, pixels
ORACLE_AUC = 0.80
DELTA = float(
    np.sqrt(2) * norm.ppf(ORACLE_AUC)
)  # difference of the mean doses with which a dose has this AUC
PALLOR = np.array([-0.05, 0.03, 0.05])  # per dose: less red, more blue
SHADOW = -0.12  # per dose: darker
Camera = Callable[[Image.Image, bool, np.random.Generator], tuple[Image.Image, dict[str, int]]]


def spot(x: float, y: float, wide: float, high: float, side: int = SIDE) -> np.ndarray:
    """A soft ellipse, 1 in its middle."""
    at = (np.arange(side) + 0.5) / side
    return np.exp(-(((at[None] - x) / wide) ** 2) - ((at[:, None] - y) / high) ** 2)


def paint(face: np.ndarray, dose: float, strength: float = 1.0) -> np.ndarray:
    """A face of SIDE pixels with a signed amount of illness."""
    skin = spot(0.5, 0.6, 0.22, 0.28)[..., None] * PALLOR * dose
    shadow = (spot(0.38, 0.53, 0.07, 0.03) + spot(0.62, 0.53, 0.07, 0.03))[..., None] * SHADOW * dose
    return np.clip(np.round((face / 255 + strength * (skin + shadow)) * 255), 0, 255).astype(np.uint8)


def same_camera(
    image: Image.Image, case: bool, rng: np.random.Generator
) -> tuple[Image.Image, dict[str, int]]:
    """One quality for all."""
    return image, {"quality": 85}


def write_people(
    folder: Path,
    n: int,
    seed: int,
    *,
    delta: float = DELTA,
    strength: float = 1.0,
    camera: Camera = same_camera,
) -> tuple[pd.DataFrame, np.ndarray]:
    """``n`` cases and ``n`` controls as JPEG files in a folder, their table, and their doses."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 77])
    faces = draw(
        ss.load_generator("synthetic-64"), sample_w(ss.load_generator("synthetic-64"), 2 * n, seed, 0.8)
    )
    case = np.arange(2 * n) % 2 == 0
    dose = rng.standard_normal(2 * n) + delta * case
    rows = []
    for k, face in enumerate(faces):
        large = np.asarray(
            Image.fromarray(photograph(face, seed=seed, index=k)).resize(
                (SIDE,) * 2, Image.Resampling.BICUBIC
            )
        )
        image, how = camera(Image.fromarray(paint(large, dose[k], strength)), bool(case[k]), rng)
        image.save(folder / f"p{k:04d}.jpg", "JPEG", **how)
        rows.append((f"p{k:04d}", f"p{k:04d}.jpg", "case" if case[k] else "control"))
    table = pd.DataFrame(rows, columns=["patient_id", "photo", "group"])
    table["age"] = np.round(rng.normal(60, 8, 2 * n), 1)
    table["sex"] = rng.choice(["F", "M"], 2 * n)
    table.loc[~case, "age"] = np.round(table.loc[case, "age"].to_numpy() + rng.normal(0, 0.5, n), 1)
    table.loc[~case, "sex"] = table.loc[case, "sex"].to_numpy()
    return table, dose
