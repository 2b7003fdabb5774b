"""Signs painted on a face: one change of colour and one of shape, drawn by one resampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.errors import InputError
from stylegan_surv.faces.mesh.find import MeshFace
from stylegan_surv.signs.catalogue import SIGNS
from stylegan_surv.signs.face import Manner, PaintedFace
from stylegan_surv.signs.optics import from_density, to_density
from stylegan_surv.signs.warp import Push, pixel_centres, resample, walk


@dataclass(frozen=True)
class Painting:
    """The sum of the signs of one face, ready to be drawn and undone.

    Attributes
    ----------
    density : array of float, shape (h, w, 3), optional
        Added to the optical density; None where no colour changes.
    pushes : tuple of Push
        Velocity of the shape; it is walked for a time of 1.
    """

    density: Floats | None
    pushes: tuple[Push, ...]

    def painted(self, rgb: Floats, shift: Floats | None = None) -> Floats:
        """The face with its signs.

        Parameters
        ----------
        rgb : array of float, shape (h, w, 3)
            sRGB in 0 … 1.
        shift : array of float, shape (2,), optional
            Moves the picture by so many pixels (x, y) in the same resampling, which is then made with or without signs.

        Returns
        -------
        array of float, shape (h, w, 3)
        """
        coloured = rgb if self.density is None else from_density(to_density(rgb) + self.density)
        return self._drawn(coloured, -1.0, shift)

    def undone(self, rgb: Floats, shift: Floats | None = None) -> Floats:
        """The painted face without its signs again: the shape walks back, then the colour is taken off."""
        plain = self._drawn(rgb, 1.0, shift)
        return plain if self.density is None else from_density(to_density(plain) - self.density)

    def _drawn(self, rgb: Floats, time: float, shift: Floats | None) -> Floats:
        if shift is None and not self.pushes:
            return rgb
        source = pixel_centres(*rgb.shape[:2]) - (0 if shift is None else shift)
        return resample(rgb, walk(source, self.pushes, time) if self.pushes else source)


def plan_painting(
    rgb: Floats, mesh: MeshFace, doses: Mapping[str, float], manner: Manner | None = None
) -> Painting:
    """What given doses change in a face.

    Parameters
    ----------
    rgb : array of float, shape (h, w, 3)
        sRGB in 0 … 1.
    mesh : MeshFace
        Of this picture.
    doses : mapping of str to float
        SD by name of the sign, of either sign; a dose of 0 changes nothing.
    manner : Manner, optional
        The person's own; by default the usual.

    Returns
    -------
    Painting

    Raises
    ------
    InputError
        If a sign is not known, or a dose not finite.
    """
    check_signs(doses)
    face = PaintedFace(rgb, mesh, manner or Manner())
    density: Floats | None = None
    pushes: list[Push] = []
    for name, dose in doses.items():
        if dose == 0:
            continue
        change = SIGNS[name].change(face)
        if change.density is not None:
            density = dose * change.density + (0 if density is None else density)
        pushes += [Push(push.at, dose * push.by, push.width) for push in change.pushes]
    return Painting(density, tuple(pushes))


def check_signs(doses: Mapping[str, float]) -> None:
    """Refuse unknown signs and numbers that are not finite."""
    unknown = [name for name in doses if name not in SIGNS]
    if unknown:
        raise InputError(f"unknown sign {', '.join(map(repr, unknown))}; expected some of {', '.join(SIGNS)}")
    odd = {name: dose for name, dose in doses.items() if not np.isfinite(dose)}
    if odd:
        raise InputError(f"the numbers of signs are {odd}; expected finite ones")


def paint(
    picture: Pixels,
    mesh: MeshFace,
    doses: Mapping[str, float],
    manner: Manner | None = None,
    *,
    shift: Floats | None = None,
) -> Pixels:
    """A picture of a face with clinical signs; without any dose and shift, the same picture bit for bit.

    Parameters
    ----------
    picture : array of uint8, shape (h, w, 3)
    mesh : MeshFace
        Of this picture, as :func:`stylegan_surv.faces.mesh.find.read_mesh` finds it.
    doses : mapping of str to float
        SD by name of the sign; see :data:`stylegan_surv.signs.SIGNS`.
    manner : Manner, optional
        The person's own edges, widths, colours and side; by default the usual.
    shift : array of float, shape (2,), optional
        Moves the picture by so many pixels (x, y). With it every picture is drawn by the same resampling, whether it
        has signs or not.

    Returns
    -------
    array of uint8, shape (h, w, 3)

    Raises
    ------
    InputError
        If a sign is not known, or a dose not finite.
    """
    rgb = picture / 255.0
    painted = plan_painting(rgb, mesh, doses, manner).painted(rgb, shift)
    if painted is rgb:
        return picture.copy()
    return to_levels(painted)


def to_levels(rgb: Floats) -> Pixels:
    """sRGB in 0 … 1 as levels 0 … 255."""
    levels: Pixels = np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    return levels
