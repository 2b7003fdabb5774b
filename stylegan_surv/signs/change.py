"""What one standard deviation of a sign changes in a face."""

from __future__ import annotations

from dataclasses import dataclass

from stylegan_surv._types import Floats
from stylegan_surv.signs.warp import Push


@dataclass(frozen=True)
class Change:
    """What one SD of a sign does to one face; a dose multiplies both.

    Attributes
    ----------
    density : array of float, shape (h, w, 3), optional
        Added to the optical density; None where colour stays.
    pushes : tuple of Push
        Velocity of the shape.
    """

    density: Floats | None = None
    pushes: tuple[Push, ...] = ()
