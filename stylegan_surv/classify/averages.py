"""Average faces of both classes, by sex: what differs, where it is beyond chance, and the shape in numbers.

Photographs are laid on one mean face by their landmarks, so that averages are sharp; differences are taken within
matched sets, in CIE L*a*b*. The threshold of the difference image is the 95 % point of the largest |t| when classes are
dealt out anew within sets (max-T; Nichols & Holmes, Hum Brain Mapp 2002): where nothing differs, a pixel passes in 5 %
of studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Bools, Floats, Ints, Progress
from stylegan_surv.classify.chips import ChipSet
from stylegan_surv.classify.lengths import LengthRow, compare_lengths
from stylegan_surv.classify.measures import multiplicities
from stylegan_surv.classify.shape import (
    ShapeTest,
    compare_shapes,
    permuted_cases,
    set_differences,
    set_weights,
    superimpose,
)
from stylegan_surv.classify.warp import FaceWarp
from stylegan_surv.errors import InputError
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.points import MESH468
from stylegan_surv.survival.metrics.interval import LEVEL, Interval

SIDE = 80  # of the average faces, pixels
LEAST_SETS = 12  # of one sex
BAND_RESAMPLES = 200
# landmarks that are compared one by one: outlines and named points; 468 hang together too closely to be read singly
LANDMARKS = tuple(
    sorted({*MESH468.single.values(), *(i for name in ("jaw", "left_brow", "right_brow", "left_eye", "right_eye",
            "nose_bridge", "nostrils", "lips") for i in MESH468.contours[name])})
)  # fmt: skip
CHANNELS = ("L*", "a*", "b*")


@dataclass(frozen=True)
class AverageSettings:
    """How averages are compared.

    Attributes
    ----------
    covariates : tuple of str
        Columns whose differences within sets are taken out of the shape.
    permutations : int
        Of the classes within sets.
    seed : int
    """

    covariates: tuple[str, ...] = ("age",)
    permutations: int = 499
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ImageDifference:
    """Average faces and their difference.

    Attributes
    ----------
    case, control : array of float, shape (side, side, 3)
        sRGB in 0 … 1.
    difference : array of float, shape (side, side, 3)
        Cases minus controls, L*, a*, b*.
    low, high : array of float, shape (side, side, 3)
        95 % pointwise band over matched sets.
    beyond : array of bool, shape (side, side, 3)
        Where |t| exceeds the max-T threshold.
    threshold : float
        Of |t|.
    p : float
        Of the largest |t|.
    skin : tuple of Interval
        Mean difference within the face, L*, a*, b*.
    """

    case: Floats
    control: Floats
    difference: Floats
    low: Floats
    high: Floats
    beyond: Bools
    threshold: float
    p: float
    skin: tuple[Interval, ...]


@dataclass(frozen=True, eq=False)
class SexAverages:
    """The comparison within one sex.

    Attributes
    ----------
    sex : str
    sets : int
    image : ImageDifference
    shape : ShapeTest
    lengths : tuple of LengthRow
    """

    sex: str
    sets: int
    image: ImageDifference
    shape: ShapeTest
    lengths: tuple[LengthRow, ...]


def average_faces(
    chipset: ChipSet, settings: AverageSettings | None = None, progress: Progress | None = None
) -> tuple[SexAverages, ...]:
    """Compare the average faces and the landmarks of the classes, by sex.

    Parameters
    ----------
    chipset : ChipSet
    settings : AverageSettings, optional
    progress : callable, optional
        Called with (done, total) in sexes.

    Returns
    -------
    tuple of SexAverages
        Sexes with fewer than 12 sets are left out.

    Raises
    ------
    InputError
        If no sex has enough sets, or a covariate is missing.
    """
    settings = settings or AverageSettings()
    table, points = chipset.people.table, chipset.points()
    if absent := [c for c in settings.covariates if c not in table or table[c].dtype.kind not in "fi"]:
        raise InputError(
            f"the covariate {absent[0]} is no column of numbers; the table has {', '.join(table.columns)}."
        )
    warp = FaceWarp(superimpose(points)[1], SIDE)
    extra = table[list(settings.covariates)].to_numpy(float) if settings.covariates else None
    sexes = sorted(table["sex"].unique())
    found = []
    for k, sex in enumerate(sexes):
        here = np.flatnonzero(_of_sex(chipset, sex))
        sets, case = table["set"].to_numpy(int)[here], chipset.people.case[here]
        if len(np.unique(sets)) >= LEAST_SETS:
            laid = np.stack(
                [warp.lay(chipset.chips[i].chip / 255.0, points[i], chipset.fill / 255) for i in here]
            )
            image = difference_image(laid, warp.inside, case, sets, settings.permutations, settings.seed)
            shape = compare_shapes(
                points[here][:, LANDMARKS], case, sets, None if extra is None else _filled(extra[here]),
                permutations=settings.permutations, seed=settings.seed,
            )  # fmt: skip
            lengths = compare_lengths(
                points[here], case, sets, permutations=settings.permutations, seed=settings.seed
            )
            found.append(SexAverages(sex, len(np.unique(sets)), image, shape, lengths))
        if progress:
            progress(k + 1, len(sexes))
    if not found:
        raise InputError(
            f"No sex has {LEAST_SETS} matched sets whose photographs gave chips; averages need them."
        )
    return tuple(found)


def _of_sex(chipset: ChipSet, sex: str) -> Bools:
    """People whose set's case has this sex; where sets were not matched on sex, only sets of one sex count."""
    table = chipset.people.table
    same = (table["sex"] == sex).groupby(table["set"]).transform("all")
    return np.asarray(same, bool)


def _filled(values: Floats) -> Floats:
    """Missing covariates by their mean."""
    return np.where(np.isfinite(values), values, np.nanmean(values, axis=0))


def difference_image(
    laid: Floats, inside: Bools, case: Bools, sets: Ints, permutations: int, seed: int
) -> ImageDifference:
    """Averages of laid pictures, their difference, its band and its max-T threshold.

    Parameters
    ----------
    laid : array of float, shape (n, side, side, 3)
        sRGB in 0 … 1, on the mean face.
    inside : array of bool, shape (side, side)
        Pixels of the face: the others are drawn but not tested.
    case : array of bool, shape (n,)
    sets : array of int, shape (n,)
    permutations, seed : int
    """
    shape = laid.shape[1:]
    lab = to_lab(laid).reshape(len(laid), -1).astype(np.float32)
    rng = np.random.default_rng([seed, 43])
    tested = np.repeat(inside.ravel(), 3)
    t = _t(lab, case, sets)
    largest = [
        float(np.abs(_t(lab[:, tested], permuted_cases(case, sets, rng), sets)).max())
        for _ in range(permutations)
    ]
    threshold = float(np.quantile(largest, LEVEL))
    observed = float(np.abs(t[tested]).max())
    d = set_differences(lab, case, sets)
    m = multiplicities(np.arange(len(d)), BAND_RESAMPLES, seed)
    resampled = (m.T @ d) / m.sum(axis=0)[:, None]
    low, high = np.quantile(resampled[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    face = resampled.reshape(len(resampled), -1, 3)[:, inside.ravel()].mean(axis=1)
    return ImageDifference(
        laid[case].mean(axis=0), laid[~case].mean(axis=0), d.mean(axis=0).reshape(shape),
        low.reshape(shape), high.reshape(shape), ((np.abs(t) > threshold) & tested).reshape(shape), threshold,
        float((1 + np.sum(np.array(largest) >= observed)) / (1 + permutations)),
        tuple(Interval.of_samples(face[:, c]) for c in range(3)),
    )  # fmt: skip


def _t(values: Floats, case: Bools, sets: Ints) -> Floats:
    """One-sample t of the differences within sets, per column."""
    d = np.asarray(set_weights(case, sets).astype(np.float32) @ values)
    return np.asarray(d.mean(axis=0) / np.maximum(d.std(axis=0, ddof=1) / np.sqrt(len(d)), 1e-6))


def averages_record(found: Sequence[SexAverages]) -> list[dict[str, object]]:
    """What the JSON file holds: numbers, not pictures."""
    rows: list[dict[str, object]] = []
    for one in found:
        moved = np.hypot(*one.shape.shift.T)
        rows.append(
            {
                "sex": one.sex,
                "sets": one.sets,
                "image": {
                    "threshold": one.image.threshold,
                    "p": one.image.p,
                    "beyond": float(one.image.beyond.any(axis=2).mean()),
                    "face": dict(zip(CHANNELS, one.image.skin)),
                },
                "shape": {
                    "p": one.shape.whole_p,
                    "statistic": one.shape.statistic,
                    "landmarks": len(moved),
                    "found": int(one.shape.found.sum()),
                    "largest_shift_px": float(moved.max()),
                },
                "lengths": one.lengths,
            }
        )
    return rows
