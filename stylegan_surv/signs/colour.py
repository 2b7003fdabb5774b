"""Signs of colour: pallor, jaundice and the shadow below the eyes, as chromophores of the skin.

Densities are natural logarithms of light per SD of dose.
"""

from __future__ import annotations

import numpy as np

from stylegan_surv.signs import areas
from stylegan_surv.signs.change import Change
from stylegan_surv.signs.face import SIDES, PaintedFace
from stylegan_surv.signs.optics import BILIRUBIN, HAEMOGLOBIN, MELANIN

PALLOR, LIPS_BEYOND = 0.14, 0.35  # the lips have no melanin that hides their blood
JAUNDICE, WHITES = 0.16, 1.4  # bilirubin has an affinity for the elastin of the conjunctiva
SHADOW, TROUGH = 0.26, 0.5  # the trough beside the nose is darkest
SHADOW_EDGE = 0.07  # standard deviation of the crescent's edge, in eye distances
RIM = 0.65  # how far the crescent reaches from the orbit's furrow to its bony rim


def pallor(face: PaintedFace) -> Change:
    """Less haemoglobin in skin and lips: on dark skin greyer, on fair skin whiter."""
    weight = areas.skin(face) + LIPS_BEYOND * areas.lips(face)
    return Change(density=-PALLOR * weight[..., None] * face.manner.tinted(HAEMOGLOBIN))


def jaundice(face: PaintedFace) -> Change:
    """Bilirubin in skin and whites of the eyes."""
    weight = areas.skin(face) + WHITES * areas.whites(face)
    return Change(density=JAUNDICE * weight[..., None] * face.manner.tinted(BILIRUBIN))


def shadow(face: PaintedFace) -> Change:
    """Dark crescents from the lower lids to the rims of the orbits: pigment, and blood that shines through."""
    axis = face.manner.tinted((MELANIN + HAEMOGLOBIN) / 2)
    weight = np.zeros(face.rgb.shape[:2])
    for side in SIDES:
        furrow, rim = face.line("orbit", side), face.line("orbit_rim", side)
        outline = np.concatenate([face.line("lid_margin", side), ((1 - RIM) * furrow + RIM * rim)[::-1]])
        crescent = face.filled([outline], SHADOW_EDGE)
        trough = face.spot(furrow[-2], (0.10, 0.12))
        weight += face.manner.share(side) * (crescent + TROUGH * trough)
    weight *= 1 - areas.eyes(face)
    return Change(density=SHADOW * weight[..., None] * axis)
