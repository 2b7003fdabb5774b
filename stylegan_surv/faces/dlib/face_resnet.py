"""dlib's face recogniser: a residual network of 29 convolutions that puts a face into 128 numbers.

Photographs of one person lie within a distance of about 0.6 of each other, those of two people mostly beyond. The
network is ResNet-34 (He et al., CVPR 2016) with fewer layers and half the filters; its weights were trained by Davis E.
King on faces from FaceScrub, VGG and the web (https://github.com/davisking/dlib-models).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.weights import DATA, MEAN, SCALE, fill, publish, read_network, ready

FILE = DATA / "face-resnet29.safetensors"
SIDE = 150  # of the chip, pixels
WIDTHS = (
    (32, 3),
    (64, 4),
    (128, 3),
    (256, 3),
    (256, 1),
)  # filters and blocks per stage; each halves but the first
NUMBERS = 128


class Block(nn.Module):
    """Two 3 × 3 convolutions beside a way around them; where the block halves, that way is an average over 2 × 2.

    Filters that only the convolutions have are added to zeros, and so are rows and columns that only the way around has
    (its average keeps an odd last one, the unpadded convolution loses it).
    """

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        stride, padding = (2, 0) if halve else (1, 1)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.around = nn.AvgPool2d(2) if halve else nn.Identity()
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, …] of features [n, inputs, …]."""
        new, old = self.second(self.relu(self.first(x))), self.around(x)
        more = new.shape[1] - old.shape[1]
        if more:
            old = F.pad(old, (0, 0, 0, 0, 0, more))
        if new.shape[2:] != old.shape[2:]:
            rows, columns = (b - a for a, b in zip(new.shape[2:], old.shape[2:]))
            new = F.pad(new, (0, columns, 0, rows))
        grown: Tensor = self.last(new + old)
        return grown


class FaceResNet(nn.Module):
    """The face recogniser as a module without weights; :func:`face_resnet` gives it with them.

    Every activation is a module of its own, so that hooks (Grad-CAM, guided backpropagation) find it.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0][0], 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2))
        stages, inputs = [], WIDTHS[0][0]
        for k, (width, blocks) in enumerate(WIDTHS):
            stage = [Block(inputs if i == 0 else width, width, halve=k > 0 and i == 0) for i in range(blocks)]
            stages.append(nn.Sequential(*stage))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, NUMBERS, bias=False)

    def maps(self, images: Tensor) -> Tensor:
        """The last activation maps [n, 256, 2, 2]."""
        if images.ndim != 4 or images.shape[1:] != (3, SIDE, SIDE):
            raise InputError(
                f"the face recogniser takes chips [n, 3, {SIDE}, {SIDE}], got {list(images.shape)}: "
                "cut them with stylegan_surv.faces.dlib.recognition_chip.cut"
            )
        found: Tensor = self.stages(self.stem(self.levels(images)))
        return found

    def levels(self, images: Tensor) -> Tensor:
        """Images in [−1, 1] as the first convolution takes them."""
        return ((images + 1) * 127.5 - self.mean) / SCALE

    def features(self, images: Tensor) -> Tensor:
        """What the descriptor is computed from: the maps' means [n, 256]."""
        return self.maps(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors of face chips.

        Parameters
        ----------
        images : Tensor, shape (n, 3, 150, 150)
            RGB in [−1, 1], cut as :func:`stylegan_surv.faces.dlib.recognition_chip.cut` does. Gradients flow to them.

        Returns
        -------
        Tensor, shape (n, 128)
            Of a length of about 1.4. A Euclidean distance below 0.6 means the same person.

        Raises
        ------
        InputError
            If the images have another shape.
        """
        descriptors: Tensor = self.head(self.features(images))
        return descriptors

    def convolutions(self) -> Iterator[nn.Conv2d]:
        """All 29 of them, from the image to the descriptor."""
        return (module for module in self.modules() if isinstance(module, nn.Conv2d))


def face_resnet() -> FaceResNet:
    """The face recogniser with the bundled weights, in evaluation mode and with its parameters fixed.

    Returns
    -------
    FaceResNet
        A new one at every call; :func:`stylegan_surv.faces.dlib.face_resnet.shared` gives one for all.
    """
    return ready(FaceResNet(), FILE)


@cache
def shared(device: torch.device) -> FaceResNet:
    """The bundled face recogniser on a device, loaded once; not to be changed."""
    return face_resnet().to(device)


def from_dat(path: str | Path) -> FaceResNet:
    """The face recogniser in full precision from dlib's own file.

    Parameters
    ----------
    path : str or Path
        ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises
    ------
    InputError
        If the file is damaged or holds another network.
    """
    network = FaceResNet()
    stored = read_network(path, _kinds())
    fill(network.convolutions(), stored)
    head = torch.from_numpy(stored.layers[-1].weight)  # type: ignore[union-attr]
    if head.shape != network.head.weight.shape or not head.isfinite().all():
        raise InputError(
            f"the last layer of {path} is {list(head.shape)}, expected are {list(network.head.weight.shape)} "
            "finite numbers: the file is damaged or holds another network"
        )
    with torch.no_grad():
        network.head.weight.copy_(head)
    return network.requires_grad_(False).eval()


def _kinds() -> list[str]:
    """The layers as the file has them."""
    kinds = ["conv", "affine", "relu", "max_pool"]
    for k, (_, blocks) in enumerate(WIDTHS):
        for i in range(blocks):
            around = ["avg_pool"] if k > 0 and i == 0 else []
            kinds += ["conv", "affine", "relu", "conv", "affine", *around, "add_prev", "relu"]
    return [*kinds, "avg_pool", "dense"]


def publish_resnet(source: str | Path, to: str | Path = FILE) -> None:
    """Write the bundled file anew from dlib's own (about 11 MB)."""
    card = {
        "kind": "face-recogniser",
        "architecture": "dlib's face ResNet with 29 convolutions, affine layers folded in",
        "input": "n × 3 × 150 × 150, RGB in [-1, 1]; dlib's aligned face chip with padding 0.25",
        "output": "n × 128; same person below a Euclidean distance of 0.6",
        "data": "about 3 million photographs of 7485 people, from FaceScrub, VGG and the web; none of LFW's",
    }
    publish(from_dat(source), source, to, card)
