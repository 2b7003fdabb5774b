"""Instruments that measure signs on a picture, and what should not change with them.

They share no mask, landmark or line of code with the painter: dlib's 68 points, boxes laid by the eyes, ratios of
light. What an instrument is worth is measured (`benchmarks.signs`): it must follow known changes and repeat under
the camera.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces.dlib.detect import DlibFinder

FRAME = (0.24, 0.27, 0.76, 0.90)  # of a frontal face in FFHQ's frame, shares of the side
FLOOR = 2.0  # levels below which light is noise
GAMMA = 2.2
YELLOW_IN_GREEN = 0.2  # bilirubin's absorption in green over that in blue
EYES = (slice(36, 42), slice(42, 48))


class Seen:
    """A picture with dlib's points; lengths are distances of the eyes."""

    def __init__(self, picture: Pixels, finder: DlibFinder) -> None:
        side = len(picture)
        left, top, right, bottom = (share * side for share in FRAME)
        self.points = finder.landmarks(Image.fromarray(picture), (left, top, right, bottom))
        self.light = np.log(np.maximum(picture, FLOOR) / 255.0) * GAMMA
        self.eyes = [self.points[part].mean(axis=0) for part in EYES]
        self.unit = float(np.hypot(*(self.eyes[1] - self.eyes[0])))

    def box(self, centre: Floats, half: float) -> Floats:
        """Mean log light around a place, (3,), weighted so that no pixel enters or leaves at once."""
        side = len(self.light)
        at = np.arange(side) + 0.5
        column, row = (np.exp(-(((at - c) / (half * self.unit)) ** 2)) for c in centre)
        mean: Floats = np.einsum("y,x,yxc->c", row / row.sum(), column / column.sum(), self.light)
        return mean

    def below(self, eye: int, down: float) -> Floats:
        """A place below an eye."""
        place: Floats = self.eyes[eye] + [0.0, down * self.unit]
        return place

    @property
    def cheeks(self) -> Floats:
        """Log light of both cheeks, (3,)."""
        return np.asarray((self.box(self.below(0, 0.75), 0.16) + self.box(self.below(1, 0.75), 0.16)) / 2)


def pallor(seen: Seen) -> float:
    """Green over red on the cheeks, freed of the part of green that goes with yellow."""
    red, green, blue = seen.cheeks
    return float(green - YELLOW_IN_GREEN * blue - red)


def jaundice(seen: Seen) -> float:
    """Green over blue on the cheeks."""
    return float(seen.cheeks[1] - seen.cheeks[2])


def wasting(seen: Seen) -> float:
    """Width of the face at the eyes over that at the mouth."""
    p = seen.points
    return float((p[16] - p[0])[0] / max((p[12] - p[4])[0], 1e-3))


def shadow(seen: Seen) -> float:
    """Cheeks over what is below the eyes, in log light."""
    under = np.mean([seen.box(seen.below(eye, 0.20), 0.16) for eye in (0, 1)])
    return float(seen.cheeks.mean() - under)


def oedema(seen: Seen) -> float:
    """Width of the eyes over their height."""
    heights = [np.ptp(seen.points[part][:, 1]) for part in EYES]
    widths = [np.ptp(seen.points[part][:, 0]) for part in EYES]
    return float(sum(widths) / max(sum(heights), 1e-3))


def brows(seen: Seen) -> float:
    """Brows over forehead, in log light."""
    middles = [seen.points[19], seen.points[24]]
    light = [seen.box(at, 0.12).mean() - seen.box(at - [0, 0.4 * seen.unit], 0.12).mean() for at in middles]
    return float(np.mean(light))


def skin_tone(seen: Seen) -> float:
    """Red light of the forehead, in which melanin counts and blood hardly does."""
    between = (seen.points[21] + seen.points[22]) / 2
    return float(seen.box(between - [0, 0.35 * seen.unit], 0.2)[0])


def background(seen: Seen) -> float:
    """Light of the upper corners."""
    edge = len(seen.light) // 8
    return float((seen.light[:edge, :edge].mean() + seen.light[:edge, -edge:].mean()) / 2)


INSTRUMENTS: Mapping[str, Callable[[Seen], float]] = {
    "pallor": pallor, "jaundice": jaundice, "wasting": wasting, "shadow": shadow, "oedema": oedema, "brows": brows,
}  # fmt: skip
BESIDE: Mapping[str, Callable[[Seen], float]] = {"skin_tone": skin_tone, "background": background}


def measure(pictures: Pixels) -> dict[str, Floats]:
    """Every instrument on pictures [n, side, side, 3], by name, shape (n,)."""
    finder = DlibFinder()
    seen = [Seen(picture, finder) for picture in pictures]
    return {
        name: np.array([instrument(one) for one in seen])
        for name, instrument in {**INSTRUMENTS, **BESIDE}.items()
    }
