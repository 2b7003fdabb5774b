"""Training of the last blocks and the head: from a linear probe, with early stopping on an inner split, resumable.

Every epoch ends with a file that holds weights, the best weights so far and the optimiser's state; chance is keyed by
seed, fold and epoch. A run that was killed goes on from there and gives the same numbers, bit for bit on one machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from stylegan_surv._files import write_tensors
from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.classify.folds import inner_split
from stylegan_surv.classify.measures import best_threshold
from stylegan_surv.classify.network import Kept, Tail, parameters
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.face_resnet import face_resnet

SCORED_COPIES = 2  # the chip and its mirror image; their log odds are averaged


@dataclass(frozen=True)
class TrainSettings:
    """How the network is trained.

    Attributes
    ----------
    blocks : int
        Residual blocks at the end that are trained, 1 … 4.
    copies : int
        Of every chip: itself, mirrored, then changed ones.
    epochs, patience : int
        At most so many passes; stop when the inner loss has not fallen for so many.
    batch : int
        Chips per step.
    rate, head_rate : float
        Learning rates of AdamW for the blocks and for the head.
    decay : float
        Weight decay.
    dropout : float
        Before the head, in [0, 1).
    seeds : int
        Networks whose log odds are averaged; each has its own inner split.
    seed : int
    """

    blocks: int = 1
    copies: int = 4
    epochs: int = 8
    patience: int = 2
    batch: int = 32
    rate: float = 5e-5
    head_rate: float = 2e-4
    decay: float = 0.05
    dropout: float = 0.3
    seeds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.blocks, self.epochs, self.patience, self.batch, self.seeds, self.copies)
        if min(counts) < 1 or self.copies < SCORED_COPIES or not 0 <= self.dropout < 1:
            raise InputError(
                f"blocks, epochs, patience, batch, seeds and copies are {counts}, dropout {self.dropout:g}; expected "
                f"numbers ≥ 1, {SCORED_COPIES} copies or more, and a dropout in [0, 1)."
            )


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained network.

    Attributes
    ----------
    tail : Tail
    threshold : float
        Log odds above which a face is called a case, chosen on the inner split.
    epoch : int
        Passes after which the inner loss was smallest; 0 is the linear probe.
    losses : tuple of float
        Inner loss before training and after every pass.
    """

    tail: Tail
    threshold: float
    epoch: int
    losses: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one network is trained on.

    Attributes
    ----------
    kept : Kept
        Of everybody; only training rows are looked at.
    case : array of bool, shape (n,)
    sets : array of int, shape (n,)
    train : array of bool, shape (n,)
        Training rows; the inner split is taken from them.
    key : tuple of int
        Names the network: fold and number of the seed.
    """

    kept: Kept
    case: Bools
    sets: Ints
    train: Bools
    key: tuple[int, int]


class _Run:
    """A network under training, with everything that a resumed run needs."""

    def __init__(self, lesson: Lesson, settings: TrainSettings) -> None:
        self.settings, self.lesson = settings, lesson
        fold, number = lesson.key
        self.chance = [settings.seed, fold + 1, number]
        inner = inner_split(lesson.sets, lesson.train, settings.seed, 1000 * number + fold + 1)
        self.fit, self.inner = np.flatnonzero(lesson.train & ~inner), np.flatnonzero(inner)
        for rows, what in ((self.fit, "training"), (self.inner, "inner")):
            if lesson.case[rows].all() or not lesson.case[rows].any():
                raise InputError(f"the {what} rows of fold {fold} hold one class; use fewer folds.")
        self.tail = Tail(face_resnet(), settings.blocks, settings.dropout)
        self.tail.probe(lesson.kept.maps[self.fit, 0], lesson.kept.means[self.fit, 0], lesson.case[self.fit])
        groups = [
            {"params": list(self.tail.blocks.parameters()), "lr": settings.rate},
            {"params": list(self.tail.head.parameters()), "lr": settings.head_rate},
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=settings.decay)
        self.target = torch.from_numpy(lesson.case.astype(np.float32))
        share = float(lesson.case[self.fit].mean())
        self.weight = torch.where(self.target > 0.5, 0.5 / share, 0.5 / (1 - share))
        self.best = {k: v.clone() for k, v in self.tail.state_dict().items()}
        self.losses: list[float] = []

    def _generator(self, epoch: int) -> torch.Generator:
        seed = int(np.random.default_rng([*self.chance, epoch]).integers(2**62))
        return torch.Generator().manual_seed(seed)

    def epoch(self) -> None:
        """One pass over all copies of the training chips, then the inner loss."""
        number, count = len(self.losses), self.lesson.kept.maps.shape[1]
        rng, generator = np.random.default_rng([*self.chance, number, 1]), self._generator(number)
        order = rng.permutation(np.stack(np.meshgrid(self.fit, np.arange(count)), axis=-1).reshape(-1, 2))
        for start in range(0, len(order), self.settings.batch):
            rows, which = order[start : start + self.settings.batch].T
            maps, means = self.lesson.kept.maps[rows, which].float(), self.lesson.kept.means[rows, which]
            logits = self.tail(maps, means, generator)
            loss = F.binary_cross_entropy_with_logits(logits, self.target[rows], self.weight[rows])
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        self.check()

    def check(self) -> None:
        """The inner loss of the network as it is."""
        inner = torch.from_numpy(score(self.tail, self.lesson.kept, self.inner)).float()
        found = F.binary_cross_entropy_with_logits(inner, self.target[self.inner], self.weight[self.inner])
        self.losses.append(float(found))
        if self.losses[-1] <= min(self.losses):
            self.best = {k: v.clone() for k, v in self.tail.state_dict().items()}

    @property
    def done(self) -> bool:
        """Whether training has ended."""
        stale = len(self.losses) - 1 - int(np.argmin(self.losses))
        return stale >= self.settings.patience or len(self.losses) > self.settings.epochs

    def digest(self) -> str:
        """Of all that the network follows from."""
        kept = self.lesson.kept
        parts = [json.dumps(asdict(self.settings)).encode(), str(self.lesson.key).encode()]
        parts += [a.numpy().tobytes() for a in (kept.maps, kept.means)]
        parts += [a.tobytes() for a in (self.lesson.case, self.lesson.sets, self.lesson.train)]
        sha = hashlib.sha256()
        for part in parts:
            sha.update(part)
        return sha.hexdigest()

    def save(self, path: Path, digest: str) -> None:
        """Write everything; the optimiser's moments once it has some."""
        tensors = {f"now.{k}": v for k, v in self.tail.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for k, p in enumerate(parameters(self.tail)):
            tensors |= {f"moment.{k}.{name}": v for name, v in self.optimiser.state[p].items()}
        packed = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_tensors(path, packed, {"of": digest, "losses": json.dumps(self.losses)})

    def load(self, path: Path, digest: str) -> None:
        """Take up what an earlier run of the same lesson has written."""
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            about = file.metadata()
            if about.get("of") != digest:
                return
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.losses = json.loads(about["losses"])
        self.tail.load_state_dict(_part(held, "now."))
        self.best = _part(held, "best.")
        for k, p in enumerate(parameters(self.tail)):
            state: dict[str, Any] = dict(_part(held, f"moment.{k}."))
            self.optimiser.state[p] = state


def _part(held: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): v for name, v in held.items() if name.startswith(prefix)}


def train(lesson: Lesson, settings: TrainSettings, folder: Path) -> Trained:
    """Train one network, or go on with it, or read it where it is finished.

    Parameters
    ----------
    lesson : Lesson
    settings : TrainSettings
    folder : Path
        Where its file is kept, ``fold-F-seed-S.safetensors``.

    Raises
    ------
    InputError
        If the training rows hold one class only.
    """
    run = _Run(lesson, settings)
    path = folder / f"fold-{lesson.key[0]}-seed-{lesson.key[1]}.safetensors"
    digest = run.digest()
    run.load(path, digest)
    if not run.losses:
        run.check()
        run.save(path, digest)
    while not run.done:
        run.epoch()
        run.save(path, digest)
    run.tail.load_state_dict(run.best)
    threshold = best_threshold(lesson.case[run.inner], score(run.tail, lesson.kept, run.inner))
    return Trained(run.tail, threshold, int(np.argmin(run.losses)), tuple(run.losses))


def score(tail: Tail, kept: Kept, rows: Sequence[int] | Ints) -> Floats:
    """Log odds of rows, averaged over the chip and its mirror image."""
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            some = np.asarray(rows)[start : start + 64]
            maps, means = (x[some, :SCORED_COPIES].float().flatten(0, 1) for x in (kept.maps, kept.means))
            found.append(tail(maps, means).view(len(some), -1).mean(dim=1).numpy())
    return np.concatenate(found).astype(float) if found else np.zeros(0)
