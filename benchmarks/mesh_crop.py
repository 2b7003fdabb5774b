"""How the FFHQ crop from mesh points compares with that from dlib's 68, and the constant offsets between them.

``python -m benchmarks.mesh_crop PHOTOS [--learn] [--limit N] [--json]``. With ``--learn`` the offsets of
``stylegan_surv/faces/points.py`` are fitted on every second face (each also mirrored, so that they are symmetric) and
judged on the others; without it, the stored ones are judged on all. Beside them stands dlib against dlib on the
mirrored photograph: what one detector disagrees with itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stylegan_surv.faces.dlib.detect import DlibFinder
from stylegan_surv.faces.ffhq import ffhq_square
from stylegan_surv.faces.found import NoFace
from stylegan_surv.faces.load import load_image
from stylegan_surv.faces.mesh.find import find_faces
from stylegan_surv.faces.mesh.sampling import as_picture
from stylegan_surv.faces.points import DLIB68, MESH468, FacePoints, Scheme

Floats = NDArray[np.floating]

SAME = 0.5  # of the inter-eye distance: faces whose eyes lie further apart are two persons


def both(image: Image.Image, finder: DlibFinder) -> tuple[Floats, Floats] | None:
    """dlib's and the mesh's points of one face, or None where one of them finds none or another face."""
    try:
        dlib = finder.find(image).points.xy
    except NoFace:
        return None
    faces = find_faces(as_picture(np.asarray(image)))
    if not faces:
        return None
    mesh = faces[0].points.xy
    a, b = FacePoints(dlib, DLIB68), FacePoints(mesh, MESH468)
    apart = np.hypot(*((a.left_eye + a.right_eye - b.left_eye - b.right_eye) / 2))
    return (dlib, mesh) if apart < SAME * a.inter_eye else None


def offsets(dlib: Sequence[Floats], mesh: Sequence[Floats]) -> Floats:
    """Mean of dlib's anchors less the mesh's, in the frame of the mesh's eyes, made symmetric, shape (3, 2)."""
    found = []
    for ours, theirs in zip(mesh, dlib):
        a, b = FacePoints(ours, replace(MESH468, offsets=np.zeros((3, 2)))), FacePoints(theirs, DLIB68)
        across = a.right_eye - a.left_eye
        frame = np.stack([across, [-across[1], across[0]]]) / (across @ across)
        found.append((np.stack(b.ffhq_anchors()) - np.stack(a.ffhq_anchors())) @ frame.T)
    left, right, mouth = np.mean(found, axis=0)
    outward, eye_down = (left[0] - right[0]) / 2, (left[1] + right[1]) / 2
    return np.array([[outward, eye_down], [-outward, eye_down], [0.0, mouth[1]]])


def mirrored_back(points: Floats, width: int) -> Floats:
    """Points of the mirrored photograph in the photograph (their order is then mirrored)."""
    flipped: Floats = np.stack([width - points[:, 0], points[:, 1]], axis=1)
    return flipped


def corners_of_mirror(points: Floats, scheme: Scheme, width: int) -> Floats:
    """Corners of the square found in the mirrored photograph, as they lie in the photograph."""
    corners = ffhq_square(FacePoints(points, scheme)).corners()
    return mirrored_back(corners, width)[[1, 0, 3, 2]]


def figures(corners: Sequence[Floats], against: Sequence[Floats]) -> dict[str, float]:
    """Displacements of corners in per cent of the side."""
    side = np.array([np.hypot(*(square[1] - square[0])) for square in against])
    apart = np.hypot(*np.moveaxis(np.array(corners) - np.array(against), -1, 0)) / side[:, None] * 100
    own = np.array([np.hypot(*(square[1] - square[0])) for square in corners])
    shift = (np.mean(corners, axis=1) - np.mean(against, axis=1)) / side[:, None] * 100
    return {
        "faces": float(len(corners)),
        "corner_mean_median": float(np.median(apart.mean(axis=1))),
        "corner_mean_95": float(np.quantile(apart.mean(axis=1), 0.95)),
        "corner_largest_median": float(np.median(apart.max(axis=1))),
        "corner_largest_95": float(np.quantile(apart.max(axis=1), 0.95)),
        "shift_x": float(shift[:, 0].mean()),
        "shift_y": float(shift[:, 1].mean()),
        "log_side_mean": float(np.log(own / side).mean() * 100),
        "log_side_median": float(np.median(np.log(own / side)) * 100),
    }


def measure(files: Sequence[Path], learn: bool) -> dict[str, object]:
    """Points of all photographs and of their mirror images; offsets; displacements."""
    finder = DlibFinder()
    rows = []
    for file in files:
        image = load_image(file)
        pairs = both(image, finder), both(ImageOps.mirror(image), finder)
        if pairs[0] and pairs[1]:
            rows.append((image.width, *pairs[0], *pairs[1]))
    train, held_out = (rows[::2], rows[1::2]) if learn else ([], rows)
    scheme, result = MESH468, dict[str, object]()
    if learn:
        fitted = offsets([p for row in train for p in row[1::2]], [p for row in train for p in row[2::2]])
        scheme, result["offsets"] = replace(MESH468, offsets=fitted), fitted.round(4).tolist()
    dlib = [ffhq_square(FacePoints(row[1], DLIB68)).corners() for row in held_out]
    mesh = [ffhq_square(FacePoints(row[2], scheme)).corners() for row in held_out]
    return {
        **result,
        "photographs": len(files),
        "mesh_against_dlib": figures(mesh, dlib),
        "dlib_against_its_mirror": figures([corners_of_mirror(r[3], DLIB68, r[0]) for r in held_out], dlib),
        "mesh_against_its_mirror": figures([corners_of_mirror(r[4], scheme, r[0]) for r in held_out], mesh),
    }


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--learn", is_flag=True, help="Fit the offsets on every second face.")
@click.option("--limit", default=400, show_default=True, help="Number of photographs, evenly spread.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(photos: Path, learn: bool, limit: int, as_json: bool) -> None:
    """Measure the crops of a folder of photographs."""
    files = sorted(file for file in photos.iterdir() if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    result = measure(files[:: max(len(files) // limit, 1)], learn)
    click.echo(json.dumps(result) if as_json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
