"""Pictures of the patients: faces drawn, signs painted, all by one resampling, and photographed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stylegan_surv._types import Floats, Pixels, Progress
from stylegan_surv.simulate.population import draw

if TYPE_CHECKING:
    from stylegan_surv.gan import Generator

DRAW_BATCH = 50
MANNER_STREAM = 4  # of the seed: how signs look on one person
SHIFT = 0.5  # pixels: the grid of a picture falls anywhere on a face, whether it is painted or not


def photograph_all(
    faces: Iterator[Pixels],
    photo_ids: Sequence[str],
    folder: Path,
    seed: int,
    camera: float,
    confound: Floats,
    progress: Progress | None,
) -> None:
    """Photograph every face, and write the chips folder."""
    from stylegan_surv.faces import Chips, photograph

    def shots() -> Iterator[Pixels]:
        for i, face in enumerate(faces):
            yield photograph(face, seed=seed, index=i, confound=float(confound[i]), strength=camera)
            if progress:
                progress(i + 1, len(photo_ids))

    Chips.create(folder, shots(), photo_ids, source="simulated")


def drawn_faces(generator: Generator, w: Floats) -> Iterator[Pixels]:
    """Every face of latents w [n, w_dim]."""
    for start in range(0, len(w), DRAW_BATCH):
        yield from draw(generator, w[start : start + DRAW_BATCH])


def painted_faces(
    faces: Iterator[Pixels], doses: Mapping[str, Floats], seed: int, *, sham: bool = False
) -> Iterator[Pixels]:
    """Faces with their signs.

    Every picture is moved by a fraction of a pixel in the resampling that also draws the change of shape, so that a
    face with much change is not told from one with none by its sharpness.

    Parameters
    ----------
    faces : iterator of array of uint8, shape (side, side, 3)
        In FFHQ's frame.
    doses : mapping of str to array of float, shape (n,)
        By sign.
    seed : int
        Of each person's manner.
    sham : bool
        Take the signs off again after they were painted; the picture is resampled twice, with any dose and with none.

    Yields
    ------
    array of uint8, shape (side, side, 3)
    """
    from stylegan_surv.signs import Manner, plan_painting
    from stylegan_surv.signs.face import framed_mesh
    from stylegan_surv.signs.paint import to_levels

    for i, face in enumerate(faces):
        rng = np.random.default_rng([seed, MANNER_STREAM, i])
        manner, shift = Manner.drawn(rng), rng.uniform(-SHIFT, SHIFT, 2)
        rgb = face / 255.0
        mesh = framed_mesh(face)
        painting = plan_painting(rgb, mesh, {name: float(dose[i]) for name, dose in doses.items()}, manner)
        painted = painting.painted(rgb, shift)
        yield to_levels(painting.undone(painted, -shift) if sham else painted)
