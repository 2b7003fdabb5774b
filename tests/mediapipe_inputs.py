"""Pictures for the comparison with LiteRT: noise, drawn shapes, and two faces of the bundled generator.

Everything is made by exact arithmetic, so that another version of torch or Pillow gives the same pictures; the
faces (64 px, no real person) are stored beside LiteRT's outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stylegan_surv._types import Floats, Pixels

REFERENCE = Path(__file__).parent / "data/mediapipe/litert.npz"
FACE_SEEDS = (0, 3)
# which of a network's outputs are stored: every fifth row and column meets all phases of the decoder
STORED: dict[str, tuple[Any, ...]] = {
    "face-mesh.0": np.s_[:],
    "face-mesh.1": np.s_[:],
    "person-matte.0": np.s_[:, ::5, ::5],
    "face-short-range.0": np.s_[:, ::7],
    "face-short-range.1": np.s_[:, ::7],
}


def generated_faces() -> Pixels:
    """Two faces of the bundled generator, uint8 [2, 64, 64, 3]."""
    import torch

    from stylegan_surv import load_generator
    from stylegan_surv._images import to_pixels

    generator = load_generator("synthetic-64")
    seeds = (torch.Generator().manual_seed(seed) for seed in FACE_SEEDS)
    z = torch.cat([torch.randn(1, generator.config.z_dim, generator=seed) for seed in seeds])
    with torch.no_grad():
        return to_pixels(generator.synthesis(generator.mapping(z, truncation_psi=0.5), noise_mode="const"))


def pictures(side: int, faces: Pixels | None = None) -> Floats:
    """Noise, shapes and two faces, float32 [4, 3, side, side] in 0 … 1."""
    if faces is None:
        faces = np.load(REFERENCE)["faces"]
    noise = np.random.default_rng(0).integers(0, 256, (3, side, side)) / 255
    enlarged = [_enlarged(face / 255.0, side).transpose(2, 0, 1) for face in faces]
    return np.stack([noise, _shapes(side), *enlarged]).astype(np.float32)


def _shapes(side: int) -> Floats:
    """A slope of grey with an upright ellipse and two dark discs."""
    at = (np.arange(side) + 0.5) / side
    x, y = at[None, :], at[:, None]
    picture = np.stack([0.3 + 0.4 * x + 0 * y, 0.3 + 0.3 * y + 0 * x, 0.5 + 0 * x * y])
    picture[:, ((x - 0.5) / 0.25) ** 2 + ((y - 0.5) / 0.35) ** 2 < 1] = np.array([[0.8], [0.6], [0.5]])
    for centre in (0.4, 0.6):
        picture[:, (x - centre) ** 2 + (y - 0.42) ** 2 < 0.04**2] = 0.1
    return picture


def _enlarged(face: Floats, side: int) -> Floats:
    """Linear between the centres of the pixels, held at the edge."""
    for axis in (0, 1):
        old = face.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * old / side - 0.5, 0, old - 1)
        low = np.minimum(np.floor(at).astype(int), old - 2)
        part = (at - low).reshape(-1, *(1,) * (2 - axis))
        face = np.take(face, low, axis) * (1 - part) + np.take(face, low + 1, axis) * part
    return face
