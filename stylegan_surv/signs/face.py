"""The face that is painted: its places by name, soft areas in its own proportions, and what is its own in a sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.errors import InputError
from stylegan_surv.faces.ffhq import Square
from stylegan_surv.faces.mesh.find import MeshFace, read_mesh
from stylegan_surv.faces.mesh.sampling import as_picture
from stylegan_surv.signs.optics import to_density
from stylegan_surv.signs.warp import Push, pixel_centres

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
FRAME_CENTRE, FRAME_SIDE = (0.5, 0.53), 0.95  # the mesh's crop of a frontal face, in sides of FFHQ's frame
FINE, FINE_BELOW = 4, 512  # polygons of pictures up to this side are drawn larger, for exact edges

# Points of MediaPipe's canonical face model (its mesh annotations), left and right as seen in the picture.
PLACES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "temple": (21, 251),
        "temple_low": (127, 356),
        "cheekbone": (116, 345),
        "cheek": (205, 425),
        "hollow": (187, 411),
        "cheek_edge": (58, 288),
        "jaw": (172, 397),
        "jaw_front": (150, 379),
        "nasolabial": (206, 426),
        "mouth_corner": (61, 291),
        "lower_lid": (145, 374),
        "upper_lid": (159, 386),
        "under_eye": (230, 450),
        "tear_trough": (121, 350),
        "bag": (119, 348),
        "lid_fold": (27, 257),
        "brow_middle": (105, 334),
    }
)
CONTOURS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "lid_margin": ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362)),
        "under_lid": ((130, 25, 110, 24, 23, 22, 26, 112, 243), (359, 255, 339, 254, 253, 252, 256, 341, 463)),
        "orbit": ((226, 31, 228, 229, 230, 231, 232, 233, 244), (446, 261, 448, 449, 450, 451, 452, 453, 464)),
        "orbit_rim": ((143, 111, 117, 118, 119, 120, 121, 128, 245), (372, 340, 346, 347, 348, 349, 350, 357, 465)),
        "crease": ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414)),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Manner:
    """What is a person's own in how the signs look: an illness has no template.

    Attributes
    ----------
    edge : float
        Softness of an area's edge over the usual.
    width : float
        Width of a warp over the usual.
    balance : float
        The left half's share beyond the right's, in fractions.
    tint : tuple of float
        Added to the unit axis of a colour before it is scaled to unit length again.
    side : {"left", "right"}
        Of the picture, where what is one-sided shows.
    """

    edge: float = 1.0
    width: float = 1.0
    balance: float = 0.0
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    side: Side = "right"

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Manner:
        """A person's manner by chance."""
        red, green, blue = rng.normal(0, TINT_SPREAD, 3).tolist()
        return cls(
            edge=float(np.exp(rng.normal(0, EDGE_SPREAD))),
            width=float(np.exp(rng.normal(0, WIDTH_SPREAD))),
            balance=float(np.clip(rng.normal(0, BALANCE_SPREAD), -0.5, 0.5)),
            tint=(red, green, blue),
            side=SIDES[int(rng.integers(2))],
        )

    def share(self, side: Side) -> float:
        """How strongly a sign shows on one side, 1 on average."""
        return 1 + self.balance if side == "left" else 1 - self.balance

    def tinted(self, axis: Floats) -> Floats:
        """The person's own colour axis, of unit length."""
        own = axis + np.array(self.tint)
        unit: Floats = own / np.linalg.norm(own)
        return unit


EDGE_SPREAD, WIDTH_SPREAD, BALANCE_SPREAD = 0.25, 0.15, 0.15  # SD; of the logarithm for the first two
TINT_SPREAD = 0.06  # SD per channel: an axis turns by about 6 degrees


def framed_mesh(picture: Pixels) -> MeshFace:
    """The mesh of an aligned picture (FFHQ's frame), without a detector.

    Parameters
    ----------
    picture : array of uint8, shape (side, side, 3)

    Returns
    -------
    MeshFace
    """
    side = picture.shape[0]
    square = Square(np.array(FRAME_CENTRE) * side, np.array([1.0, 0.0]), FRAME_SIDE * side)
    return read_mesh(as_picture(picture), [square], again=0)[0]


@dataclass(frozen=True, eq=False)
class PaintedFace:
    """A picture with its mesh, as the signs see it.

    Attributes
    ----------
    rgb : array of float, shape (h, w, 3)
        sRGB in 0 … 1.
    mesh : MeshFace
        Of this picture.
    manner : Manner
    """

    rgb: Floats
    mesh: MeshFace
    manner: Manner

    def __post_init__(self) -> None:
        if self.mesh.points.scheme.name != "mesh":
            raise InputError(
                f"signs are painted by {self.mesh.points.scheme.name}; expected the 468 points of read_mesh"
            )

    @cached_property
    def density(self) -> Floats:
        """Optical densities, (h, w, 3)."""
        return to_density(self.rgb)

    @property
    def unit(self) -> float:
        """Distance of the eyes in pixels: lengths are fractions of it."""
        return self.mesh.points.inter_eye

    @cached_property
    def axes(self) -> Floats:
        """Rows: along the eyes to the right, and down to the chin; unit vectors."""
        across = (self.mesh.points.right_eye - self.mesh.points.left_eye) / max(self.unit, 1e-9)
        return np.array([across, [-across[1], across[0]]])

    @cached_property
    def centres(self) -> Floats:
        """Coordinates of the pixels, (h, w, 2)."""
        return pixel_centres(*self.rgb.shape[:2])

    def at(self, place: str, side: Side) -> Floats:
        """A place by name, (2,)."""
        point: Floats = self.mesh.points.xy[PLACES[place][SIDES.index(side)]]
        return point

    def line(self, contour: str, side: Side) -> Floats:
        """A contour by name, from the temple to the nose, (k, 2)."""
        points: Floats = self.mesh.points.xy[list(CONTOURS[contour][SIDES.index(side)])]
        return points

    def push(self, place: str, side: Side, by: tuple[float, float], width: float) -> Push:
        """A push at a place.

        Parameters
        ----------
        place : str
        side : {"left", "right"}
        by : tuple of float
            Outwards from the middle of the face and downwards, in eye distances.
        width : float
            In eye distances.

        Returns
        -------
        Push
        """
        outward = -by[0] if side == "left" else by[0]
        shift = np.array([outward, by[1]]) @ self.axes * self.unit
        return Push(
            self.at(place, side), shift * self.manner.share(side), width * self.unit * self.manner.width
        )

    def filled(self, outlines: Sequence[Floats], edge: float) -> Floats:
        """Polygons filled with 1, (h, w), whose edge has a standard deviation of `edge` eye distances."""
        height, width = self.rgb.shape[:2]
        fine = FINE if max(height, width) <= FINE_BELOW else 1
        canvas = Image.new("L", (width * fine, height * fine))
        pen = ImageDraw.Draw(canvas)
        for outline in outlines:
            pen.polygon([(float(x), float(y)) for x, y in outline * fine - 0.5], fill=255)
        hard = np.asarray(canvas, dtype=float).reshape(height, fine, width, fine).mean(axis=(1, 3)) / 255
        soft: Floats = gaussian_filter(hard, edge * self.unit * self.manner.edge)
        return soft

    def spot(self, centre: Floats, size: tuple[float, float], turn: float = 0.0) -> Floats:
        """A Gaussian spot of height 1, (h, w).

        Parameters
        ----------
        centre : array of float, shape (2,)
        size : tuple of float
            Standard deviations along the eyes and downwards, in eye distances.
        turn : float
            Radians, clockwise as seen.

        Returns
        -------
        array of float, shape (h, w)
        """
        laid = (self.centres - centre) @ self.axes.T / self.unit
        cos, sin = np.cos(turn), np.sin(turn)
        along, down = laid[..., 0] * cos + laid[..., 1] * sin, laid[..., 1] * cos - laid[..., 0] * sin
        wide, high = (s * self.manner.edge for s in size)
        near: Floats = np.exp(-((along / wide) ** 2 + (down / high) ** 2) / 2)
        return near
