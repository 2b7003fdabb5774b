"""Face chips for training: read once into memory as bytes, in an order that is a function of seed and position."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from stylegan_surv.cohort import Cohort, read_split
from stylegan_surv.errors import InputError

FINETUNE_SET = "finetune"  # the patients of a split that networks may see
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MIN_CHIPS = 16  # fewer cannot train anything; the message says so before hours are spent

# a chip cut from a captioned contact sheet: black margin (8-bit levels) with white letters in it
BLACK, WHITE = 18, 140
EDGE = 0.17  # how deep captions reach into a chip
MARGIN_SHARE, LETTER_SHARE = 0.10, 0.004


@dataclass(frozen=True)
class ImageSet:
    """Training images.

    Attributes
    ----------
    ids : file stems.
    pixels : uint8 [n, resolution, resolution, 3].
    skipped : (file stem, reason) of files that were not used.
    owners : whose each image is; empty: each is its own patient's.
    """

    ids: tuple[str, ...]
    pixels: NDArray[np.uint8]
    skipped: tuple[tuple[str, str], ...] = ()
    owners: tuple[str, ...] = ()

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of every image."""
        return self.owners or self.ids

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels: whether a run goes on with the images that it began with."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()

    def __len__(self) -> int:
        return len(self.ids)

    def images(
        self, index: NDArray[np.int64] | slice = slice(None), device: torch.device | str = "cpu"
    ) -> Tensor:
        """float32 [n, 3, resolution, resolution] in [−1, 1]; they travel to ``device`` as bytes."""
        picked = torch.from_numpy(self.pixels[index]).to(device)
        return picked.permute(0, 3, 1, 2).float().div(127.5).sub(1)

    def subset(self, index: Sequence[int]) -> ImageSet:
        """The chips at ``index``."""
        owners = tuple(self.owners[i] for i in index) if self.owners else ()
        return ImageSet(tuple(self.ids[i] for i in index), self.pixels[list(index)], self.skipped, owners)


def read_chips(folder: str | Path, resolution: int, *, drop_captions: bool = False) -> ImageSet:
    """Read a folder of square chips, shrunk to ``resolution`` by a Lanczos filter; grey ones become RGB.

    Files that cannot be used (damaged, not square, smaller than ``resolution``) are skipped and listed in
    ``.skipped`` with the reason.

    Raises
    ------
    InputError
        If fewer than 16 usable chips are found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder; expected one with face chips (see `stylegan-surv align`)"
        )
    ids, pixels, skipped = [], [], []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError) as fault:
            skipped.append((path.stem, f"unreadable: {fault}"))
            continue
        if image.width != image.height or image.width < resolution:
            size = f"{image.width}x{image.height}"
            skipped.append((path.stem, f"{size}; expected a square of {resolution} or more"))
            continue
        if drop_captions and captioned(np.asarray(image)):
            skipped.append((path.stem, "caption at an edge"))
            continue
        if image.width != resolution:
            image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
        ids.append(path.stem)
        pixels.append(np.asarray(image))
    if len(ids) < MIN_CHIPS:
        why = (
            f"; {len(skipped)} were skipped, the first ({skipped[0][0]}): {skipped[0][1]}" if skipped else ""
        )
        raise InputError(f"{folder} has {len(ids)} usable chips; training needs at least {MIN_CHIPS}{why}")
    return ImageSet(tuple(ids), np.stack(pixels), tuple(skipped))


def of_patients(images: ImageSet, owner: Mapping[str, str], chosen: Set[str] | None = None) -> ImageSet:
    """The images whose patient is known and, if given, among ``chosen``; the others are listed in ``.skipped``.

    Raises
    ------
    InputError
        If none is left.
    """
    keep = [
        i for i, name in enumerate(images.ids) if name in owner and (chosen is None or owner[name] in chosen)
    ]
    kept = {images.ids[i] for i in keep}
    if not kept:
        raise InputError(
            f"none of {len(images)} chips (the first: {images.ids[0]}) belongs to a patient of the cohort and split; "
            "their names must be the photo_ids of `stylegan-surv align`"
        )
    left = [
        (i, "not of the chosen patients" if i in owner else "not in the cohort")
        for i in images.ids
        if i not in kept
    ]
    some = images.subset(keep)
    return ImageSet(some.ids, some.pixels, (*images.skipped, *left), tuple(owner[i] for i in some.ids))


@dataclass(frozen=True)
class Patients:
    """Whose photographs they are, and whose of them networks may see.

    Attributes
    ----------
    cohort : Cohort
        Says whose each photograph is.
    split : str or Path, optional
        What ``stylegan-surv split`` wrote: only patients of its set ``chosen`` are used.
    chosen : str
        The set of the split.
    """

    cohort: Cohort
    split: str | Path | None = None
    chosen: str = FINETUNE_SET

    def select(self, images: ImageSet) -> ImageSet:
        """The images of these patients.

        Raises
        ------
        InputError
            If the split has no such set, or none of the images is theirs.
        """
        patients = None
        if self.split is not None:
            sets = read_split(self.split)
            patients = set(sets.loc[sets["set"] == self.chosen, "patient_id"])
            if not patients:
                there = ", ".join(sorted(set(sets["set"])))
                raise InputError(
                    f"{self.split} has no set {self.chosen!r}; it has: {there}. Name one with --set."
                )
        table = self.cohort.table
        return of_patients(images, dict(zip(table["photo_id"], table["patient_id"])), patients)


def batch_of(n: int, resolution: int) -> int:
    """How many images need the memory that ``n`` need at 64 px; at least one."""
    return max(1, n * 64**2 // resolution**2)


def captioned(chip: NDArray[np.uint8]) -> bool:
    """Whether a chip shows the black margin and white letters of a contact sheet along an edge."""
    depth = int(EDGE * len(chip))
    for turns in range(4):
        strip = np.rot90(chip, turns)[:depth]
        black = (strip.max(axis=2) < BLACK).mean()
        white = ((strip.min(axis=2) > WHITE) & (np.ptp(strip, axis=2) < 25)).mean()
        if black > MARGIN_SHARE and LETTER_SHARE < white < 0.2 and black + white > 0.14:
            return True
    return False


def hold_out(ids: Sequence[str], fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Indices (train, held out), by the id of each image or, for photographs of patients, by the patient's.

    Membership depends on the id and seed alone: not on what else is in the folder, and equal ids stay together.
    """
    position = [
        int.from_bytes(hashlib.sha256(f"{seed}:{i}".encode()).digest()[:8], "big") / 2**64 for i in ids
    ]
    train = [k for k, p in enumerate(position) if p >= fraction]
    held = [k for k, p in enumerate(position) if p < fraction]
    return train, held


def sample_order(position: int, count: int, total: int, seed: int) -> NDArray[np.int64]:
    """Indices of ``count`` images from stream position ``position`` on, in 0 … total − 1.

    The stream is one shuffled pass over the data after another; it has no state, so that a run that resumes, and
    two processes that share a batch, see exactly the images of one that never stopped.
    """
    passes = range(position // total, (position + count - 1) // total + 1)
    stream = np.concatenate([np.random.default_rng((seed, 0xDA7A, p)).permutation(total) for p in passes])
    start = position - passes[0] * total
    return stream[start : start + count]
