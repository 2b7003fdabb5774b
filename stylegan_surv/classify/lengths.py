"""Named measures of a face, from its landmarks: what "facial adiposity" is as a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.classify.measures import multiplicities
from stylegan_surv.classify.shape import permuted_cases, set_differences
from stylegan_surv.faces.points import MESH468, FacePoints
from stylegan_surv.survival.metrics.interval import Interval

RESAMPLES = 1000


def _far(a: Floats, b: Floats) -> float:
    return float(np.hypot(*(a - b)))


def _upright(face: FacePoints) -> FacePoints:
    """The face with level eyes, in inter-eye distances."""
    across = (face.right_eye - face.left_eye) / max(face.inter_eye, 1e-9)
    frame = np.stack([across, [-across[1], across[0]]]) / max(face.inter_eye, 1e-9)
    return face.moved(frame, -frame @ face.left_eye)


def width_to_height(face: FacePoints) -> float:
    """Cheekbone width over the height from brows to upper lip (facial width-to-height ratio; Weston et al. 2007)."""
    brow = (face["left_brow_inner"] + face["right_brow_inner"]) / 2
    return _far(face["left_cheekbone"], face["right_cheekbone"]) / max(_far(brow, face["lip_top"]), 1e-9)


def lower_fullness(face: FacePoints) -> float:
    """Jaw width over cheekbone width."""
    cheek = _far(face["left_cheekbone"], face["right_cheekbone"])
    return _far(face["left_jaw_angle"], face["right_jaw_angle"]) / max(cheek, 1e-9)


def cheek_at_mouth(face: FacePoints) -> float:
    """Width of the face at the height of the mouth, over the inter-eye distance (Coetzee et al. 2010)."""
    laid = _upright(face)
    height = float(laid.mouth[1])
    outline = laid["jaw"]
    middle = len(outline) // 2
    sides = []
    for half in (outline[: middle + 1], outline[middle:][::-1]):  # from the ear down to the chin
        sides.append(float(np.interp(height, half[:, 1], half[:, 0])))
    return abs(sides[1] - sides[0])


def lid_aperture(face: FacePoints) -> float:
    """Height of the opening between the lids over the width of the eye, mean of both eyes."""
    found = []
    for side in ("left", "right"):
        ring = face[f"{side}_eye"]  # six points: corner, two above, corner, two below
        open_ = (_far(ring[1], ring[5]) + _far(ring[2], ring[4])) / 2
        found.append(open_ / max(_far(ring[0], ring[3]), 1e-9))
    return float(np.mean(found))


def brow_height(face: FacePoints) -> float:
    """Brows above the middle of the eyes, over the inter-eye distance."""
    laid = _upright(face)
    brows = np.concatenate([laid["left_brow"], laid["right_brow"]])
    return float(-(brows[:, 1].mean()))


MEASURES: Mapping[str, Callable[[FacePoints], float]] = {
    "face width to height": width_to_height,
    "lower-face fullness": lower_fullness,
    "cheek width at the mouth": cheek_at_mouth,
    "lid aperture": lid_aperture,
    "brow height": brow_height,
}


@dataclass(frozen=True)
class LengthRow:
    """One measure in both classes.

    Attributes
    ----------
    name : str
    case, control : float
        Means.
    effect : Interval
        Cases minus controls in SD within classes, with a 95 % interval over matched sets.
    p : float
        By permutation within sets, two-sided.
    """

    name: str
    case: float
    control: float
    effect: Interval
    p: float


def measure_all(points: Floats) -> dict[str, Floats]:
    """All measures of faces whose meshes are given, shape (n, 468, 2)."""
    faces = [FacePoints(xy, MESH468) for xy in points]
    return {name: np.array([of(face) for face in faces]) for name, of in MEASURES.items()}


def compare_lengths(
    points: Floats, case: Bools, sets: Ints, *, permutations: int = 999, seed: int = 0
) -> tuple[LengthRow, ...]:
    """Every measure of cases against controls.

    Parameters
    ----------
    points : array of float, shape (n, 468, 2)
    case : array of bool, shape (n,)
    sets : array of int, shape (n,)
    permutations, seed : int
    """
    rng = np.random.default_rng([seed, 42])
    deals = [permuted_cases(case, sets, rng) for _ in range(permutations)]
    m = multiplicities(np.arange(len(np.unique(sets))), RESAMPLES, seed)
    rows = []
    for name, values in measure_all(points).items():
        spread = np.sqrt((values[case].var(ddof=1) + values[~case].var(ddof=1)) / 2)
        difference = set_differences(values, case, sets)[:, 0]
        effect = difference @ m / m.sum(axis=0) / max(float(spread), 1e-12)
        null = np.array([set_differences(values, deal, sets).mean() for deal in deals])
        p = float((1 + np.sum(np.abs(null) >= abs(difference.mean()) - 1e-15)) / (1 + permutations))
        rows.append(
            LengthRow(
                name, float(values[case].mean()), float(values[~case].mean()), Interval.of_samples(effect), p
            )
        )
    return tuple(rows)
