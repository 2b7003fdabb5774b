"""Where the network looks: Grad-CAM and guided Grad-CAM on people it was not trained on, and whether to believe them.

Grad-CAM (Selvaraju et al., ICCV 2017) weighs the maps of a layer by the mean gradient of the log odds; guided Grad-CAM
multiplies it with guided backpropagation (Springenberg et al. 2015). Maps are registered on the mean face. Two checks
come first: a network with random weights must give other maps (Adebayo et al., NeurIPS 2018), and the guided map must
not be the plain gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from stylegan_surv._images import to_images
from stylegan_surv._types import Bools, Floats, Ints, Pixels, Progress
from stylegan_surv.classify.chips import ChipSet
from stylegan_surv.classify.network import SEEN, Kept, Tail, assembled
from stylegan_surv.classify.parts import PARTS, part_masks
from stylegan_surv.classify.shape import permuted_cases, superimpose
from stylegan_surv.classify.training import Lesson, TrainSettings, train
from stylegan_surv.classify.warp import FaceWarp
from stylegan_surv.faces.dlib.face_resnet import FaceResNet

LAYER = 2  # stage whose maps are weighed: 8 × 8 places, the finest that still sees most of the face
SIDE = 80  # of registered maps, pixels
MOST = 200  # people explained, drawn by seed
PER_PASS = 16
DIFFERENT = 1e-3  # relative distance of guided from plain gradient below which they are taken for the same
DESTROYED = 0.5  # mean rank correlation with the map of random weights below which these have destroyed it


class Explained(nn.Module):
    """The whole network with the trained blocks and head.

    Parameters
    ----------
    tail : Tail
    """

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self.body: FaceResNet = assembled(tail)
        self.tail = tail

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds [n] of images in [−1, 1], and the maps of the weighed layer."""
        maps = self.body.stem(self.body.levels(images))
        means = [maps.mean(dim=(2, 3))]
        for k, stage in enumerate(self.body.stages):
            maps = stage(maps)
            if k < SEEN:
                means.append(maps.mean(dim=(2, 3)))
            if k == LAYER:
                weighed = maps
        return self.tail.read(torch.cat([maps.mean(dim=(2, 3)), *means], dim=1)), weighed


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of some faces, for one class each.

    Attributes
    ----------
    cam, guided, plain : array of float, shape (n, 150, 150)
        Grad-CAM; guided Grad-CAM; Grad-CAM times the plain gradient. None is negative.
    """

    cam: Floats
    guided: Floats
    plain: Floats


def explain_chips(network: Explained, chips: Pixels, towards: Floats) -> Maps:
    """Maps of chips for a class each.

    Parameters
    ----------
    network : Explained
    chips : array of uint8, shape (n, 150, 150, 3)
    towards : array of float, shape (n,)
        1 to explain the log odds of a case, −1 those of a control.
    """
    parts = []
    for start in range(0, len(chips), PER_PASS):
        part = slice(start, start + PER_PASS)
        parts.append(_explain_some(network, to_images(chips[part]), torch.from_numpy(towards[part]).float()))
    return Maps(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("cam", "guided", "plain")))


def _explain_some(network: Explained, images: Tensor, towards: Tensor) -> Maps:
    images = images.requires_grad_(True)
    logits, maps = network(images)
    at_maps, plain = torch.autograd.grad((logits * towards).sum(), [maps, images])
    cam = F.relu((at_maps.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True)).detach()
    cam = F.interpolate(cam, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    with guided(network):
        logits, _ = network(images)
        (through,) = torch.autograd.grad((logits * towards).sum(), images)
    fine, coarse = (g.abs().sum(dim=1) for g in (through, plain))
    return Maps(cam.numpy(), (cam * fine).numpy(), (cam * coarse).numpy())


@contextmanager
def guided(network: nn.Module) -> Iterator[None]:
    """Let only positive gradients pass every ReLU on the way back."""

    def positive(_module: nn.Module, into: tuple[Tensor, ...], _out: object) -> tuple[Tensor, ...]:
        return (F.relu(into[0]),)

    relus = [m for m in network.modules() if isinstance(m, nn.ReLU)]
    handles = [m.register_full_backward_hook(positive) for m in relus]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def randomised(tail: Tail, seed: int) -> Explained:
    """The network with every weight drawn anew at its layer's own spread."""
    network = Explained(tail)
    network.tail = _copy(tail)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (p.std() if p.numel() > 1 else 1.0))
    return network


def _copy(tail: Tail) -> Tail:
    other = Tail(assembled(tail), len(tail.blocks), tail.dropout)
    other.load_state_dict(tail.state_dict())
    return other


@dataclass(frozen=True)
class Share:
    """What a part of the picture gets of a map.

    Attributes
    ----------
    part : str
    area : float
        Share of the picture.
    cam, guided : float
        Share of the map's mass.
    permuted : float
        Share of the Grad-CAM mass of a network trained on classes that were dealt out anew within sets.
    """

    part: str
    area: float
    cam: float
    guided: float
    permuted: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the network looks at.

    Attributes
    ----------
    cam, guided : dict of str to array of float, shape (side, side)
        Mean maps by class on the mean face, each with sum 1.
    face : array of float, shape (side, side, 3)
        Mean face, sRGB in 0 … 1.
    shares : dict of str to tuple of Share
        By class.
    random_correlation : float
        Mean rank correlation of a face's Grad-CAM with that of random weights.
    seed_correlation : float
        The same with the network of another seed, for comparison; NaN with one seed.
    guided_distance : float
        Relative distance of the guided from the plain map.
    people : int
    """

    cam: dict[str, Floats]
    guided: dict[str, Floats]
    face: Floats
    shares: dict[str, tuple[Share, ...]]
    random_correlation: float
    seed_correlation: float
    guided_distance: float
    people: int

    @property
    def believable(self) -> bool:
        """Whether random weights destroy the map, and the guided map is one."""
        return abs(self.random_correlation) < DESTROYED and self.guided_distance > DIFFERENT


def explain(
    chipset: ChipSet,
    kept: Kept,
    fold: Ints,
    settings: TrainSettings,
    folder: Path,
    progress: Progress | None = None,
) -> Explanation:
    """Explain the networks of a study on people of their test folds.

    Parameters
    ----------
    chipset : ChipSet
    kept : Kept
        As the networks were trained on.
    fold : array of int, shape (n,)
    settings : TrainSettings
        Those of the study: finished networks are read from `folder`, others are trained.
    folder : Path
        Where the networks are kept.
    progress : callable, optional
        Called with (done, total) in folds.
    """
    case, sets = chipset.people.case, chipset.people.table["set"].to_numpy(int)
    points, pixels = chipset.points(), chipset.pixels()
    chosen = _chosen(fold, settings.seed)
    towards = np.where(case, 1.0, -1.0)
    warp = FaceWarp(superimpose(points)[1], SIDE)
    laid: dict[str, list[tuple[int, Floats]]] = {"cam": [], "guided": [], "permuted": []}
    random_, between, distance = [], [], []
    levels = np.unique(fold[fold >= 0])
    dealt = permuted_cases(case, sets, np.random.default_rng([settings.seed, 51]))
    for k in levels:
        rows = chosen[fold[chosen] == k]
        if not len(rows):
            continue
        lessons = [
            Lesson(kept, case, sets, np.asarray(fold != k), (int(k), s)) for s in range(settings.seeds)
        ]
        tails = [train(lesson, settings, folder).tail for lesson in lessons[:2]]
        found = explain_chips(Explained(tails[0]), pixels[rows], towards[rows])
        random_ += _correlations(
            found.cam, explain_chips(randomised(tails[0], int(k)), pixels[rows], towards[rows]).cam
        )
        if len(tails) > 1:
            between += _correlations(
                found.cam, explain_chips(Explained(tails[1]), pixels[rows], towards[rows]).cam
            )
        apart, length = (float(np.linalg.norm(x)) for x in (found.guided - found.plain, found.plain))
        distance.append(apart / max(length, 1e-12))
        null = train(Lesson(kept, dealt, sets, np.asarray(fold != k), (int(k), 0)), settings, _made(folder))
        other = explain_chips(Explained(null.tail), pixels[rows], towards[rows])
        for name, maps in (("cam", found.cam), ("guided", found.guided), ("permuted", other.cam)):
            laid[name] += [(int(i), warp.lay(one, points[i])) for i, one in zip(rows, maps)]
        if progress:
            progress(int(np.searchsorted(levels, k)) + 1, len(levels))
    means = {name: _class_means(maps, case) for name, maps in laid.items()}
    cover = np.mean([warp.lay(chipset.chips[i].cover, points[i]) for i in chosen], axis=0)
    face = np.mean([warp.lay(pixels[i] / 255.0, points[i], chipset.fill / 255) for i in chosen], axis=0)
    masks = part_masks(warp.points, cover)
    shares = {
        name: _shares(masks, *(means[m][name] for m in ("cam", "guided", "permuted")))
        for name in means["cam"]
    }
    return Explanation(
        means["cam"], means["guided"], face, shares, float(np.nanmean(random_)),
        float(np.nanmean(between)) if between else float("nan"), float(np.mean(distance)), len(chosen),
    )  # fmt: skip


def _made(folder: Path) -> Path:
    place = folder / "permuted"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _chosen(fold: Ints, seed: int) -> Ints:
    tested = np.flatnonzero(fold >= 0)
    return np.sort(np.random.default_rng([seed, 52]).permutation(tested)[:MOST])


def _correlations(a: Floats, b: Floats) -> list[float]:
    """Rank correlation of each face's two maps; NaN where one is flat."""
    step = 5  # maps of 8 × 8 places need no more than 30 × 30 of 150 × 150
    pairs = zip(a[:, ::step, ::step], b[:, ::step, ::step])
    return [
        float(spearmanr(x.ravel(), y.ravel())[0]) if x.std() > 0 and y.std() > 0 else np.nan for x, y in pairs
    ]


def _class_means(maps: list[tuple[int, Floats]], case: Bools) -> dict[str, Floats]:
    """Mean of the maps by class, each map with sum 1; maps without mass say nothing."""
    found = {}
    for name, of in (("case", case), ("control", ~case)):
        some = [one / one.sum() for i, one in maps if of[i] and one.sum() > 0]
        found[name] = np.mean(some, axis=0) if some else np.full((SIDE, SIDE), SIDE**-2.0)
    return found


def _shares(masks: Mapping[str, Floats], cam: Floats, fine: Floats, permuted: Floats) -> tuple[Share, ...]:
    def mass(one: Floats, part: str) -> float:
        return float((one * masks[part]).sum() / max(one.sum(), 1e-12))

    flat = np.ones_like(cam)
    return tuple(Share(p, mass(flat, p), mass(cam, p), mass(fine, p), mass(permuted, p)) for p in PARTS)
