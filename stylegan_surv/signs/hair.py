"""Signs of hair, which treatment gives: hair that thins and recedes, and eyebrows that are lost.

What hair covers is skin: per SD the density, without its strands, goes a share of the way to that of the forehead, so
that strands stay to be seen; a negative dose leads as far the other way, to denser hair.
"""

from __future__ import annotations

from scipy.ndimage import gaussian_filter

from stylegan_surv._types import Floats
from stylegan_surv.signs import areas
from stylegan_surv.signs.change import Change
from stylegan_surv.signs.face import PaintedFace

THINNING, BROWS = 0.30, 0.30  # of the way to the skin
STRANDS = 0.10  # standard deviation of what is finer than the density of hair, in eye distances
SHADED = 0.15  # density of a scalp beyond that of the forehead: light falls on it less steeply
MOST = 2.0  # natural logarithms of light: black hair on fair skin


def thinning(face: PaintedFace) -> Change:
    """The hairline recedes and the scalp shines through."""
    return Change(density=THINNING * _bared(face, areas.scalp(face)))


def brows(face: PaintedFace) -> Change:
    """Eyebrows thin until they are gone."""
    return Change(density=BROWS * _bared(face, areas.brows(face)))


def _bared(face: PaintedFace, weight: Floats) -> Floats:
    """How the density changes where hair gives way to skin."""
    hair = gaussian_filter(face.density, (STRANDS * face.unit, STRANDS * face.unit, 0))
    towards = (areas.forehead_density(face) + SHADED - hair).clip(-MOST, MOST)
    bared: Floats = weight[..., None] * towards
    return bared
