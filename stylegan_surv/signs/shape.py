"""Signs of shape: wasting, oedema, the mouth that droops, the moon face, as smooth pushes with the shade they cast.

Pushes are (place, (outwards, downwards), width), shades (place, (size along the eyes, size downwards), density), in
distances of the eyes and natural logarithms of light per SD of dose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.signs import areas
from stylegan_surv.signs.change import Change
from stylegan_surv.signs.face import SIDES, PaintedFace, Side
from stylegan_surv.signs.optics import HAEMOGLOBIN, SHADE
from stylegan_surv.signs.warp import Push

Pushes = Sequence[tuple[str, tuple[float, float], float]]
Shades = Sequence[tuple[str, tuple[float, float], float]]

WASTING_PUSHES: Pushes = (
    ("temple", (-0.016, 0.0), 0.30),
    ("hollow", (-0.034, 0.0), 0.34),
    ("cheek_edge", (-0.030, -0.002), 0.38),
    ("jaw_front", (-0.020, -0.004), 0.32),
    ("cheekbone", (0.010, -0.004), 0.18),
)
WASTING_SHADES: Shades = (
    ("hollow", (0.13, 0.26), 0.16),
    ("temple", (0.12, 0.20), 0.12),
    ("cheekbone", (0.16, 0.09), -0.07),
)
HOLLOW_TURN = 0.45  # radians: the hollow runs from the ear towards the corner of the mouth

OEDEMA_PUSHES: Pushes = (
    ("upper_lid", (0.0, 0.026), 0.13),
    ("lower_lid", (0.0, -0.020), 0.11),
    ("under_eye", (0.0, 0.016), 0.16),
    ("cheek", (0.010, 0.006), 0.34),
    ("cheek_edge", (0.018, 0.0), 0.38),
)
OEDEMA_SHADES: Shades = (
    ("under_eye", (0.16, 0.055), -0.14),  # the swollen lid catches the light
    ("bag", (0.17, 0.05), 0.20),  # its lower edge casts a shade
    ("lid_fold", (0.15, 0.06), -0.12),
)

DROOP_PUSHES: Pushes = (
    ("mouth_corner", (-0.004, 0.040), 0.17),
    ("nasolabial", (0.0, 0.018), 0.26),
    ("jaw_front", (0.0, 0.012), 0.26),
    ("lower_lid", (0.0, 0.010), 0.10),
    ("brow_middle", (0.0, 0.014), 0.18),
)
SOUND_PUSHES: Pushes = (("mouth_corner", (0.012, -0.010), 0.16),)  # the sound side pulls the mouth over
FOLD = ("nasolabial", (0.05, 0.16), -0.06)  # the lame side loses its fold

MOON_PUSHES: Pushes = (
    ("hollow", (0.026, 0.0), 0.34),
    ("cheek_edge", (0.036, 0.004), 0.38),
    ("jaw_front", (0.034, 0.010), 0.32),
    ("cheek", (0.008, 0.010), 0.26),
)
MOON_SHADES: Shades = (("cheek", (0.20, 0.18), -0.06), ("hollow", (0.12, 0.22), -0.04))
PLETHORA = 0.06  # the moon face is red: density of haemoglobin on the cheeks
PLETHORA_SIZE = (0.28, 0.24)


def wasting(face: PaintedFace) -> Change:
    """Temples, cheeks and jaw fall in and the cheekbones stand out; the hollows lie in shade."""
    return _change(face, WASTING_PUSHES, WASTING_SHADES, HOLLOW_TURN)


def oedema(face: PaintedFace) -> Change:
    """Lids swell, the eyes narrow, bags cast a shade, cheeks widen."""
    return _change(face, OEDEMA_PUSHES, OEDEMA_SHADES)


def droop(face: PaintedFace) -> Change:
    """One corner of the mouth, the cheek and the lid above it sink, the other corner pulls; a negative dose lifts."""
    lame = face.manner.side
    sound: Side = "left" if lame == "right" else "right"
    pushes = _pushes(face, DROOP_PUSHES, lame) + _pushes(face, SOUND_PUSHES, sound)
    place, size, strength = FOLD
    fold = strength * face.spot(face.at(place, lame), size)
    return Change((fold * areas.skin(face))[..., None] * SHADE, pushes)


def moon(face: PaintedFace) -> Change:
    """The lower face grows round and full, and the cheeks red, as under glucocorticoids."""
    shape = _change(face, MOON_PUSHES, MOON_SHADES)
    red = np.sum(
        [face.manner.share(s) * face.spot(face.at("cheek", s), PLETHORA_SIZE) for s in SIDES], axis=0
    )
    blood = PLETHORA * (red * areas.skin(face))[..., None] * face.manner.tinted(HAEMOGLOBIN)
    return Change(blood if shape.density is None else shape.density + blood, shape.pushes)


def _change(face: PaintedFace, pushes: Pushes, shades: Shades, turn: float = 0.0) -> Change:
    walked = tuple(push for side in SIDES for push in _pushes(face, pushes, side))
    shade: Floats = np.zeros(face.rgb.shape[:2])
    for side in SIDES:
        for place, size, strength in shades:
            spot = face.spot(face.at(place, side), size, turn if side == "left" else -turn)
            shade = shade + face.manner.share(side) * strength * spot
    weight = areas.skin(face)
    return Change((shade * weight)[..., None] * SHADE, walked)


def _pushes(face: PaintedFace, pushes: Pushes, side: Side) -> tuple[Push, ...]:
    return tuple(face.push(place, side, by, width) for place, by, width in pushes)
