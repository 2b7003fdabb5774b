"""A camera for simulated patients: what lies between a face and its photograph, and says nothing of the outcome.

Background, clothing, light, compression and framing are drawn per photograph; a study that is told the
truth about its patients must look through them. On request they follow a given value instead: a confounded
camera, such as a ward with its own wall and lamp.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform

from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces.masks.ellipse import FACE, HEAD, ellipse, smoothstep

NECKLINE = (0.84, 0.94)  # where clothing fades in, as fractions of the height
CONFOUND_BACKGROUND = 0.12  # shift of the background's brightness per unit of the confounder
GAMMA = 2.2  # of a display, near enough to sRGB
CONFOUND_EXPOSURE = 0.12  # shift of the exposure, in stops, per unit of the confounder


@dataclass(frozen=True)
class Camera:
    """How strongly each factor varies between photographs; 0 switches it off, 1 is a busy clinic.

    Attributes
    ----------
    background, clothing : float
        Opacity of a tint around the head and below the neck.
    light : float
        Spread of exposure (SD 0.35 stops), of colour temperature and of light from one side.
    jpeg : float
        Loss: quality 95 at 0, down to 40 at 1.
    jitter : float
        Spread of the framing: shift 2 %, scale 3 %, rotation 2° (SD).
    """

    background: float = 1.0
    clothing: float = 1.0
    light: float = 1.0
    jpeg: float = 1.0
    jitter: float = 1.0

    def photograph(self, face: Pixels, *, seed: int, index: int, confound: float = 0.0) -> Pixels:
        """Photograph one face.

        Every factor has its own random numbers, keyed by (`seed`, `index`): switching one off leaves the others
        as they were, and neither the order nor the number of photographs matters.

        Parameters
        ----------
        face : array of uint8, shape (side, side, 3)
            An aligned face (FFHQ geometry).
        seed, index : int
            The study's seed and the number of the photograph, both >= 0.
        confound : float
            Brightens background and exposure by this many units; 0 for a camera that is blind to the outcome.

        Returns
        -------
        array of uint8, shape (side, side, 3)
        """
        face = np.asarray(face)
        if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3 or face.dtype != np.uint8:
            raise ValueError(f"face is {face.dtype} {face.shape}; expected uint8 [size, size, 3]")
        rng = [np.random.default_rng([seed, index, factor]) for factor in range(5)]
        image: Floats = face / 255.0
        image = _tint_background(image, self.background, confound, rng[0])
        image = _dress(image, self.clothing, rng[1])
        image = _frame(image, self.jitter, rng[2])
        image = _light(image, self.light, confound, rng[3])
        pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
        return _compress(pixels, self.jpeg, rng[4])


def photograph(
    face: Pixels, *, seed: int, index: int, confound: float = 0.0, strength: float = 1.0
) -> Pixels:
    """Photograph one face with every factor at the same `strength`; see `Camera.photograph`."""
    camera = Camera(strength, strength, strength, strength, strength)
    return camera.photograph(face, seed=seed, index=index, confound=confound)


def _tint_background(image: Floats, strength: float, confound: float, rng: np.random.Generator) -> Floats:
    tone = rng.uniform(0.15, 0.85) + CONFOUND_BACKGROUND * confound
    tint = np.clip(tone + rng.normal(0, 0.08, 3), 0, 1)
    slope = rng.normal(0, 0.1, 2)  # an uneven wall
    size = image.shape[0]
    at = (np.arange(size) + 0.5) / size - 0.5
    shade = slope[0] * at[None, :] + slope[1] * at[:, None]
    wall = np.clip(tint + shade[..., None], 0, 1)
    return _cover(image, wall, rng.uniform(0.5, 1.0) * strength * (1 - ellipse(size, HEAD, softness=0.3)))


def _dress(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    colour = rng.uniform(0.05, 0.95, 3)
    size = image.shape[0]
    top, full = NECKLINE
    height = (np.arange(size) + 0.5) / size
    below = smoothstep((height - top) / (full - top))[:, None] * (1 - ellipse(size, FACE))
    return _cover(image, colour, rng.uniform(0.5, 1.0) * strength * below)


def _cover(image: Floats, colour: Floats, opacity: Floats) -> Floats:
    covered: Floats = image + np.minimum(opacity, 1.0)[..., None] * (colour - image)
    return covered


def _frame(image: Floats, strength: float, rng: np.random.Generator) -> Floats:
    if strength == 0:
        return image
    size = image.shape[0]
    shift = strength * rng.normal(0, 0.02, 2) * size
    scale = np.exp(strength * rng.normal(0, 0.03))
    angle = np.deg2rad(strength * rng.normal(0, 2.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = np.full(2, (size - 1) / 2)
    offset = centre - turn @ (centre + shift)
    channels = [affine_transform(image[..., c], turn, offset, order=3, mode="mirror") for c in range(3)]
    framed: Floats = np.clip(np.stack(channels, axis=-1), 0, 1)
    return framed


def _light(image: Floats, strength: float, confound: float, rng: np.random.Generator) -> Floats:
    stops = strength * rng.normal(0, 0.35) + CONFOUND_EXPOSURE * confound
    warmth = strength * rng.normal(0, 0.06)  # red up, blue down, in log gain
    side = strength * rng.normal(0, 0.25)  # from one side of the picture to the other, in stops
    at = np.linspace(-0.5, 0.5, image.shape[1])[None, :, None]
    gain = 2.0 ** (stops + side * at) * np.exp([warmth, 0.0, -warmth])
    linear = np.clip(image, 0, 1) ** GAMMA  # exposure acts on light, not on coded values
    lit: Floats = np.clip(linear * gain, 0, 1) ** (1 / GAMMA)
    return lit


def _compress(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    if strength == 0:
        return pixels
    quality = round(95 - 55 * min(strength, 1.0) * rng.uniform())
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer, formats=["JPEG"]).convert("RGB"))
