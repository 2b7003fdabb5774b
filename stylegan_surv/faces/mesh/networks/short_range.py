"""The short-range face detector (Bazarevsky et al., BlazeFace, arXiv 1907.05047): large faces, six points each."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from stylegan_surv.faces.mesh.networks.layers import Conv, Residual, load_weights

FILE = "face-short-range.safetensors"
SIDE = 128  # of the picture, pixels
ANCHORS = 896  # 2 on each of 16 × 16 places and 6 on each of 8 × 8
NUMBERS = 16  # per anchor: centre, size, and the two coordinates of six points
FINE_WIDTHS = (24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88)  # after each block down to 16 × 16
FINE_DOWN = (3, 6)  # blocks (from 1) with stride 2
COARSE_WIDTHS = (88, 96, 96, 96, 96, 96)  # the first with stride 2, to 8 × 8


class ShortRangeDetector(nn.Module):
    """Boxes with six points and scores at 896 anchors; the bundled weights are loaded.

    The module has a gradient with respect to its input; its weights are fixed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, FINE_WIDTHS[0], 5, stride=2)
        self.fine = _blocks(FINE_WIDTHS, down=FINE_DOWN)
        self.coarse = _blocks(COARSE_WIDTHS, down=(1,))
        self.fine_scores = Conv(FINE_WIDTHS[-1], 2, 1)
        self.coarse_scores = Conv(COARSE_WIDTHS[-1], 6, 1)
        self.fine_boxes = Conv(FINE_WIDTHS[-1], 2 * NUMBERS, 1)
        self.coarse_boxes = Conv(COARSE_WIDTHS[-1], 6 * NUMBERS, 1)
        load_weights(self, FILE)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of all anchors.

        Parameters
        ----------
        pictures : Tensor, shape (n, 3, 128, 128)
            RGB in −1 … 1.

        Returns
        -------
        numbers : Tensor, shape (n, 896, 16)
            In pixels of the 128 × 128 picture: centre (x, y) of the box from the anchor, its width and height,
            then (x, y) from the anchor of six points: the eye on the left of the picture, the other eye, tip of
            the nose, middle of the mouth, the ear on the left, the other ear.
        logits : Tensor, shape (n, 896)
            Their sigmoid is the score.
        """
        fine = self.fine(self.stem(pictures).relu())
        coarse = self.coarse(fine)
        numbers = (
            _per_anchor(self.fine_boxes(fine), NUMBERS),
            _per_anchor(self.coarse_boxes(coarse), NUMBERS),
        )
        logits = (_per_anchor(self.fine_scores(fine), 1), _per_anchor(self.coarse_scores(coarse), 1))
        return torch.cat(numbers, dim=1), torch.cat(logits, dim=1).squeeze(2)


def anchor_centres() -> Tensor:
    """Centres of the anchors as (x, y) in pixels of the 128 × 128 picture, shape (896, 2)."""
    centres = []
    for side, per_place in ((16, 2), (8, 6)):
        at = (torch.arange(side) + 0.5) * (SIDE / side)
        y, x = torch.meshgrid(at, at, indexing="ij")
        centres.append(torch.stack([x, y], dim=-1).view(-1, 2).repeat_interleave(per_place, dim=0))
    return torch.cat(centres)


def _blocks(widths: tuple[int, ...], down: tuple[int, ...]) -> nn.Sequential:
    """Residual blocks between neighbouring widths; those counted in `down` have stride 2."""
    pairs = pairwise(widths)
    return nn.Sequential(
        *(
            Residual(c_in, c_out, 2 if k in down else 1, activation=lambda _: nn.ReLU())
            for k, (c_in, c_out) in enumerate(pairs, start=1)
        )
    )


def _per_anchor(maps: Tensor, numbers: int) -> Tensor:
    """Maps [n, anchors per place × numbers, h, w] as [n, anchors, numbers], places row by row."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, numbers)
