"""dlib's CNN face detector in torch: one small network over all levels of an image pyramid at once.

King, Max-Margin Object Detection (arXiv 1502.00046). The weights were trained by Davis E. King
(https://github.com/davisking/dlib-models). Pyramid, tiling, decoding and suppression are those of dlib 20, so that
boxes and scores are the same; the whole pyramid lies in one canvas, of which the network sees every place alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from stylegan_surv._images import to_images
from stylegan_surv._types import Floats, Ints
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.weights import DATA, MEAN, SCALE, fill, publish, read_network, ready
from stylegan_surv.faces.found import MAX_ENLARGE, Box, resized

FILE = DATA / "face-detector-cnn.safetensors"
DOWN, DOWN_FILTERS = 3, (16, 32, 32)  # convolutions of stride 2: a score every 2³ pixels
WIDE, WIDE_FILTERS = 3, 45
WINDOW = 80  # side of the face that one place of the network looks for, pixels
STEP, FIRST = (
    2**DOWN,
    14,
)  # pixels between neighbouring scores, and where the first one's window has its centre
RATE, UP = 5 / 6, 6 / 5  # of the sizes of neighbouring levels, and back: halves are rounded as dlib does
SHIFT = 0.3  # by which dlib moves a point per level
SMALLEST = 5  # rows of the smallest level
PADDING, MARGIN = 10, 11  # pixels between levels and around them
OVERLAP = 0.3382761351109955  # of two boxes' intersection over their hull, from which they are one face
SEARCHED = 480  # long side of a photograph when it is searched; the cost grows with the square
MIN_CANVAS = 29  # pixels that three 5 × 5 convolutions of stride 2 need


@dataclass(frozen=True)
class Detection:
    """A face that was found.

    Attributes
    ----------
    score : float
        Above the threshold of 0; about 1 for a clear face.
    box : tuple of float
        Left, top, right, bottom in the image's pixels, whole numbers; pixel (0, 0) covers [0, 1] × [0, 1]. May lie
        partly outside the image.
    """

    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Tiling:
    """Where the levels of a pyramid lie in their canvas.

    Attributes
    ----------
    height, width : int
        Of the canvas, pixels.
    tiles : array of int, shape (levels, 4)
        Left, top, width and height of every level, the image itself first.
    """

    height: int
    width: int
    tiles: Ints


def tiling(height: int, width: int) -> Tiling:
    """Tiling of an image's pyramid: levels down the left side, then up the right side as far as there is room.

    Parameters
    ----------
    height, width : int
        Of the image, at least 1 pixel.
    """
    sizes = [(width, height)]
    while True:
        w, h = (math.floor(RATE * extent) for extent in sizes[-1])
        if w * h == 0 or h < SMALLEST:
            break
        sizes.append((w, h))
    column = _first_column(sizes)
    tiles, y = [], MARGIN
    for w, h in sizes[:column]:
        tiles.append((MARGIN, y, w, h))
        y += h + PADDING
    y -= PADDING
    bottom = y
    for w, h in sizes[column:]:
        left, top = MARGIN + width - w, y - h
        if top < MARGIN + height:  # it would lie on the image itself
            break
        tiles.append((left, top, w, h))
        y -= h + PADDING
    return Tiling(bottom + MARGIN, width + 2 * MARGIN, np.array(tiles))


def _first_column(sizes: Sequence[tuple[int, int]]) -> int:
    """Number of levels below each other: until the next fits beside the last, and half the remaining height is used."""
    width, height = sizes[0]
    total = sum(h + PADDING for _, h in sizes) - 2 * PADDING
    used = before = 0
    for k, (w, h) in enumerate(sizes):
        if w <= width - before - PADDING and 2 * (used - height) >= total - height:
            return k
        used, before = used + h + PADDING, w
    return len(sizes)


class CnnDetector(nn.Module):
    """The detector as a module without weights; :func:`cnn_detector` gives it with them."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        layers: list[nn.Module] = []
        inputs = 3
        for k, width in enumerate((*DOWN_FILTERS, *(WIDE_FILTERS,) * WIDE)):
            stride, padding = (2, 0) if k < DOWN else (1, 2)
            layers += [nn.Conv2d(inputs, width, 5, stride, padding), nn.ReLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 9, padding=4))

    def canvas(self, images: Tensor) -> Tensor:
        """Pyramids of images [n, 3, h, w] in [−1, 1], each in its own canvas [n, 3, …], as the network takes them."""
        places = tiling(*images.shape[2:])
        level = ((images + 1) * 127.5 - self.mean) / SCALE
        canvas = level.new_zeros(len(images), 3, places.height, places.width)
        for left, top, width, height in places.tiles.tolist():
            if level.shape[2:] != (height, width):
                level = F.interpolate(level, size=(height, width), mode="bilinear", align_corners=True)
            canvas[:, :, top : top + height, left : left + width] = level
        return canvas

    def forward(self, images: Tensor) -> Tensor:
        """Scores of all windows of images of one size.

        Parameters
        ----------
        images : Tensor, shape (n, 3, h, w)
            RGB in [−1, 1]. Gradients flow to them.

        Returns
        -------
        Tensor, shape (n, rows, columns)
            For the windows of the canvas; empty if the images are smaller than the network's filters.

        Raises
        ------
        InputError
            If the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise InputError(
                f"the face detector takes images [n, 3, height, width], got {list(images.shape)}"
            )
        canvas = self.canvas(images)
        if min(canvas.shape[2:]) < MIN_CANVAS:
            return images.new_zeros(len(images), 0, 0)
        scores: Tensor = self.layers(canvas)[:, 0]
        return scores

    @torch.no_grad()
    def detect(self, images: Tensor, threshold: float = 0.0) -> list[list[Detection]]:
        """Faces of images of one size.

        Parameters
        ----------
        images : Tensor, shape (n, 3, h, w)
            RGB in [−1, 1]. A face needs about 80 pixels: enlarge what may hold smaller ones.
        threshold : float
            Score from which a window is a face; dlib's own is 0.

        Returns
        -------
        list of list of Detection
            Of every image, best score first.

        Raises
        ------
        InputError
            If the images have another shape.
        """
        scores = self(images).float().cpu().numpy()
        places = tiling(*images.shape[2:])
        return [decode(one, places, threshold) for one in scores]

    def convolutions(self) -> list[nn.Conv2d]:
        """All seven of them, from the image to the scores."""
        return [module for module in self.layers if isinstance(module, nn.Conv2d)]


def decode(scores: Floats, places: Tiling, threshold: float = 0.0) -> list[Detection]:
    """Windows above a threshold, without those that overlap a better one.

    Parameters
    ----------
    scores : array of float, shape (rows, columns)
        Of the canvas' windows.
    places : Tiling
    threshold : float

    Returns
    -------
    list of Detection
        Best score first.
    """
    rows, columns = np.nonzero(scores > threshold)
    found = scores[rows, columns]
    order = np.argsort(-found, kind="stable")
    boxes = _boxes(np.stack([columns, rows], axis=1)[order], places)
    kept: list[int] = []
    for k, box in enumerate(boxes):
        if not _overlaps(boxes[kept], box).any():
            kept.append(k)
    return [
        Detection(float(found[order[k]]), (left, top, right + 1, bottom + 1))
        for k, (left, top, right, bottom) in ((k, boxes[k].tolist()) for k in kept)
    ]


def _boxes(windows: Ints, places: Tiling) -> Floats:
    """First and last pixels (left, top, right, bottom) in the image of windows [n, 2], counted in scores."""
    centres = windows * STEP + FIRST
    low, high = places.tiles[:, :2], places.tiles[:, :2] + places.tiles[:, 2:] - 1
    beyond = centres[:, None] - np.clip(centres[:, None], low, high)
    level = (beyond**2).sum(axis=2).argmin(axis=1)  # the tile that the centre lies in, or the nearest
    corners = (centres - low[level])[:, None] + np.array([[-1], [1]]) * (WINDOW - 1) / 2
    for k in range(1, len(places.tiles)):
        corners = np.where((level >= k)[:, None, None], corners * UP + SHIFT, corners)
    rounded: Floats = np.copysign(np.floor(np.abs(corners) + 0.5), corners).reshape(-1, 4)
    return rounded


def _overlaps(boxes: Floats, box: Floats) -> Floats:
    """Which of boxes [n, 4] share more of their hull with a box than two faces do."""
    inner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1
    hull = np.maximum(boxes[:, 2:], box[2:]) - np.minimum(boxes[:, :2], box[:2]) + 1
    same: Floats = inner.clip(min=0).prod(axis=1) > OVERLAP * hull.prod(axis=1)
    return same


def cnn_detector() -> CnnDetector:
    """A new detector with the bundled weights, in evaluation mode and with its parameters fixed."""
    return ready(CnnDetector(), FILE)


@cache
def shared(device: torch.device) -> CnnDetector:
    """The bundled detector on a device, loaded once; not to be changed."""
    return cnn_detector().to(device)


def boxes_of(image: Image.Image) -> list[tuple[float, Box]]:
    """Score and box of the faces of an RGB photograph, searched at a long side of 480 pixels, best score first."""
    pixels, scale = resized(image, SEARCHED, MAX_ENLARGE)
    if min(pixels.shape[:2]) < WINDOW:  # a strip: no face of the network's size fits in
        return []
    found = shared(torch.device("cpu")).detect(to_images(pixels)[None])[0]
    boxes = [(face.score, tuple(edge / scale for edge in face.box)) for face in found]
    return [(score, (left, top, right, bottom)) for score, (left, top, right, bottom) in boxes]


def from_dat(path: str | Path) -> CnnDetector:
    """The detector in full precision from dlib's own file.

    Parameters
    ----------
    path : str or Path
        ``mmod_human_face_detector.dat``.

    Raises
    ------
    InputError
        If the file is damaged or holds another network.
    """
    network = CnnDetector()
    stored = read_network(path, ["conv", "affine", "relu"] * (DOWN + WIDE) + ["conv"])
    found = (stored.loss.window, stored.loss.overlap, stored.input.extent)
    expected = ((WINDOW, WINDOW), (OVERLAP, 1.0), (PADDING, MARGIN))
    if found != expected:
        raise InputError(
            f"{path} has (window, overlap, padding) {found}, expected is {expected}: another detector"
        )
    fill(network.convolutions(), stored)
    return network.requires_grad_(False).eval()


def publish_detector(source: str | Path, to: str | Path = FILE) -> None:
    """Write the bundled file anew from dlib's own (0.4 MB)."""
    card = {
        "kind": "face-detector",
        "architecture": "dlib's max-margin CNN face detector, batch normalisation folded in",
        "input": "n × 3 × h × w, RGB in [-1, 1]; faces of 80 pixels and more",
        "output": "scores of 80-pixel windows, every 8 pixels of a pyramid with a rate of 5/6; a face above 0",
        "data": "dlib_face_detection_dataset-2016-09-30 (of ImageNet, AFLW, Pascal VOC, VGG, WIDER, FaceScrub)",
    }
    publish(from_dat(source), source, to, card)
