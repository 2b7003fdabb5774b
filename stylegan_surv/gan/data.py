"""Face chips for training: read once into memory as bytes, in an order that is a function of seed and position."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylegan_surv._images import to_images
from stylegan_surv._types import Ints, Pixels
from stylegan_surv.cohort import Cohort, read_split
from stylegan_surv.errors import InputError
from stylegan_surv.faces.formats import SUFFIXES
from stylegan_surv.faces.load import load_image

FINETUNE_SET = "finetune"  # the patients of a split that networks may see
MIN_CHIPS = 16  # fewer cannot train anything; the message says so before hours are spent

# a chip cut from a captioned contact sheet: black margin (8-bit levels) with white letters in it
BLACK, WHITE = 18, 140
EDGE = 0.17  # how deep captions reach into a chip
MARGIN_SHARE, LETTER_SHARE = 0.10, (0.004, 0.2)  # of the edge: at least so much black; so much white
BOTH_SHARE = 0.14  # at least so much of the edge is the one or the other
GREY = 25  # levels by which a white pixel's channels differ at most
ORDER = 0xDA7A  # names the stream of the data's order


@dataclass(frozen=True)
class ImageSet:
    """Training images.

    Attributes
    ----------
    ids : tuple of str
        File stems.
    pixels : array of uint8, shape (n, resolution, resolution, 3)
    skipped : tuple of (str, str)
        File stem and reason, of files that were not used.
    owners : tuple of str
        Whose each image is; empty: each is its own patient's.
    """

    ids: tuple[str, ...]
    pixels: Pixels
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

    def images(self, index: Ints | slice = slice(None), device: torch.device | str = "cpu") -> Tensor:
        """float32 [n, 3, resolution, resolution] in [−1, 1]; they travel to ``device`` as bytes."""
        return to_images(torch.from_numpy(self.pixels[index]).to(device))

    def subset(self, index: Sequence[int]) -> ImageSet:
        """The chips at ``index``."""
        owners = tuple(self.owners[i] for i in index) if self.owners else ()
        return ImageSet(tuple(self.ids[i] for i in index), self.pixels[list(index)], self.skipped, owners)


def read_chips(folder: str | Path, resolution: int, *, drop_captions: bool = False) -> ImageSet:
    """Read a folder of square chips, each as `stylegan_surv.faces.load_image` does, shrunk by a Lanczos filter.

    Files that cannot be used (damaged, not square, smaller than ``resolution``, no picture, in a subfolder) are listed
    in ``.skipped`` with the reason. Names that begin with ``_`` or a dot are no chips.

    Parameters
    ----------
    folder : str or Path
        As ``stylegan-surv align`` writes it.
    resolution : int
        Side of the images, in pixels.
    drop_captions : bool
        Leave out chips that have a caption at an edge.

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
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(("_", "."))):
        try:
            pixels.append(_read_chip(path, resolution, drop_captions))
            ids.append(path.stem)
        except InputError as wrong:
            skipped.append((path.stem if path.suffix.lower() in SUFFIXES else path.name, str(wrong)))
    if len(ids) < MIN_CHIPS:
        why = (
            f"; {len(skipped)} were skipped, the first ({skipped[0][0]}): {skipped[0][1]}" if skipped else ""
        )
        raise InputError(f"{folder} has {len(ids)} usable chips; training needs at least {MIN_CHIPS}{why}")
    return ImageSet(tuple(ids), np.stack(pixels), tuple(skipped))


def _read_chip(path: Path, resolution: int, drop_captions: bool) -> Pixels:
    """One chip's pixels; an `InputError` says why it cannot be used."""
    if path.is_dir():
        inside = sum(p.suffix.lower() in SUFFIXES for p in path.rglob("*"))
        raise InputError(
            f"a folder, with {inside} pictures in it that were not read; name it itself to use them"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"ignored: {path.suffix or 'no suffix'} is not one of {', '.join(SUFFIXES)}")
    try:
        image = load_image(path)
    except InputError as wrong:
        raise InputError(f"unreadable: {wrong}") from wrong
    if image.width != image.height or image.width < resolution:
        raise InputError(f"{image.width}x{image.height}; expected a square of {resolution} or more")
    if drop_captions and captioned(np.asarray(image)):
        raise InputError("caption at an edge")
    if image.width != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(image)


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


def captioned(chip: Pixels) -> bool:
    """Whether a chip shows the black margin and white letters of a contact sheet along an edge."""
    depth = int(EDGE * len(chip))
    for turns in range(4):
        strip = np.rot90(chip, turns)[:depth]
        black = (strip.max(axis=2) < BLACK).mean()
        white = ((strip.min(axis=2) > WHITE) & (np.ptp(strip, axis=2) < GREY)).mean()
        if black > MARGIN_SHARE and LETTER_SHARE[0] < white < LETTER_SHARE[1] and black + white > BOTH_SHARE:
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


def sample_order(position: int, count: int, total: int, seed: int) -> Ints:
    """Indices of ``count`` images from stream position ``position`` on, in 0 … total − 1.

    The stream is one shuffled pass over the data after another; it has no state, so that a run that resumes, and
    two processes that share a batch, see exactly the images of one that never stopped.
    """
    passes = range(position // total, (position + count - 1) // total + 1)
    stream = np.concatenate([np.random.default_rng((seed, ORDER, p)).permutation(total) for p in passes])
    start = position - passes[0] * total
    return stream[start : start + count]
