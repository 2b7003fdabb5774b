"""Runs: from a recipe, a folder of chips and, when fine-tuning, a base generator, to a folder of results.

The folder holds ``state.safetensors`` (everything to go on from, bit for bit), ``generator.safetensors`` with its
``encoder`` and ``discriminator`` (the averages as of the last check), ``best/`` (as of the check with the lowest
held-out error), ``log.jsonl`` and sheets of samples and held-out reconstructions.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import MIN_CHIPS, ImageSet, Patients, hold_out, read_chips
from stylegan_surv.gan.formats import provenance
from stylegan_surv.gan.training import parallel
from stylegan_surv.gan.training.prepare import fold_offsets, match_mapping
from stylegan_surv.gan.training.recipe import Recipe
from stylegan_surv.gan.training.start import PARTS, Start, from_networks, from_scratch
from stylegan_surv.gan.training.trainer import Trainer
from stylegan_surv.gan.training.watch import Watcher

FRESH = "no discriminator was found with the base: training began with a fresh one"


class Interrupted:
    """True once SIGTERM or SIGINT came: the trainer finishes its step, saves and returns."""

    def __init__(self) -> None:
        self.seen = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True

    def __call__(self) -> bool:
        return self.seen


@dataclass(frozen=True)
class Run:
    """What a run left.

    Attributes
    ----------
    folder : Path
        Where everything is.
    images : int
        Real images seen so far.
    finished : bool
        False if it was interrupted; the same call goes on.
    trained_on, held_out : int
        Number of photographs.
    skipped : tuple of (str, str)
        Photograph and reason, of those that could not be used.
    best : dict of str to float
        Held-out error of the best snapshot, by name; empty if nothing was held out.
    memorisation : dict
        Whether the best snapshot copies (`gan.grading.memorisation`); empty if too few were held out.
    notes : tuple of str
        What its user has to know.
    """

    folder: Path
    images: int
    finished: bool
    trained_on: int
    held_out: int
    skipped: tuple[tuple[str, str], ...]
    best: dict[str, float]
    memorisation: dict[str, Any]
    notes: tuple[str, ...] = ()


class _Stopped(Exception):
    """The final comparison was interrupted."""


def never() -> bool:
    """Do not stop."""
    return False


def train(
    recipe: Recipe,
    photos: str | Path,
    out: str | Path,
    *,
    start: str | Path | None = None,
    card: dict[str, Any] | None = None,
    stop: Callable[[], bool] = never,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Run:
    """Train a generator from scratch, or go on from networks.

    Parameters
    ----------
    recipe : Recipe
        All settings; with ``start``, its resolution is replaced by that of the networks.
    photos : str or Path
        Folder of face chips.
    out : str or Path
        Folder of the run; one that was interrupted there goes on.
    start : str or Path, optional
        Another run's folder, with ``generator.safetensors``, ``encoder.safetensors`` (where the recipe has a
        reconstruction part) and, if it is there, ``discriminator.safetensors`` to start from; or a generator as in
        :func:`finetune`, such as ``synthetic-64``.
    card : dict, optional
        Entries of the networks' cards, instead of the licence, data and provenance that the run knows of.
    stop : callable
        Asked after every step whether to save and return.
    progress : callable, optional
        Called with (images, total).
    device : str
        A torch device.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If the photographs are too few, or the recipe asks for what the start lacks.
    """
    if start is None:
        begin = from_scratch(recipe)
    else:
        last = Path(start).is_dir()  # not its best networks: a discriminator belongs to the last ones
        sources = {k: Path(start) / f"{k}.safetensors" if last else start for k in PARTS}
        recipe, begin = from_networks(sources, recipe, device)
    images = read_chips(photos, recipe.resolution, drop_captions=recipe.drop_captions)
    return _run(recipe, images, Path(out), begin, card or {}, stop, progress, device)


def finetune(
    base: str | Path,
    photos: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    patients: Patients | None = None,
    encoder: str | Path | None = None,
    stop: Callable[[], bool] = never,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Run:
    """Fine-tune a pretrained generator on patients' photographs.

    Parameters
    ----------
    base : str or Path
        Bundled name, our safetensors, an NVlabs pickle or a rosinality file.
    photos : str or Path
        Folder of face chips, aligned as the base's were.
    out : str or Path
        Folder of the run; one that was interrupted there goes on.
    recipe : Recipe
        Settings; its resolution is replaced by the base's.
    patients : Patients, optional
        Whose each photograph is, and which patients may be used. Without it every photograph counts as a patient of
        its own, and the cards name no patients.
    encoder : str or Path, optional
        Encoder to train along; by default the base's own, where the recipe has a reconstruction part.
    stop : callable
        Asked after every step whether to save and return.
    progress : callable, optional
        Called with (images, total).
    device : str
        A torch device.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If the photographs are too few, belong to nobody in the cohort, or the recipe asks for what the base lacks.
    """
    sources = dict.fromkeys(PARTS, base) | {"encoder": encoder or base}
    recipe, begin = from_networks(sources, recipe, device)
    images = read_chips(photos, recipe.resolution, drop_captions=recipe.drop_captions)
    images = images if patients is None else patients.select(images)
    return _run(recipe, images, Path(out), begin, {}, stop, progress, device)


def _card(start: Start, seen: ImageSet) -> dict[str, Any]:
    """Licence, data, base and provenance of networks that go on from ``start`` with these photographs."""
    base = start.generator.card
    bases = [net.card for net in (start.generator, start.encoder) if net is not None and net.card]
    # the key of the patients' hashes: the same when a run goes on, another for another run
    salt = parallel.digest_of_names([str(base.get("sha256")), *seen.ids, *seen.patients]) * 2
    whose = f" of {len(set(seen.owners))} patients" if seen.owners else ""
    return {
        "licence": base.get("licence", "not stated"),
        "data": f"{'fine-tuned' if base else 'trained'} on {len(seen)} photographs{whose}",
        "base": base.get("sha256"),
        "provenance": provenance.record(seen.pixels, seen.owners or None, base=bases, salt=salt),
    }


def _check(recipe: Recipe, chips: int, out: Path) -> None:
    """Refuse what cannot be run, before anything is written."""
    if recipe.micros % parallel.world():
        raise InputError(
            f"{parallel.world()} processes cannot share {recipe.micros} micro-batches: set `micros` to a multiple"
        )
    if chips < MIN_CHIPS:
        raise InputError(f"{chips} chips are left to train on; expected at least {MIN_CHIPS}")
    if out.exists() and not out.is_dir():
        raise InputError(
            f"{out} is a file; expected a folder for the run, a new one or that of a run to go on"
        )


def _run(
    recipe: Recipe,
    images: ImageSet,
    out: Path,
    start: Start,
    card: dict[str, Any],
    stop: Callable[[], bool],
    progress: Progress | None,
    device: str,
) -> Run:
    into, aside = hold_out(images.patients, recipe.hold_out, recipe.seed)
    _check(recipe, len(into), out)
    notes = (FRESH,) if start.has_fresh_discriminator else ()
    seen = images.subset(into)
    card = {"name": recipe.name, **_card(start, seen), **({"notes": list(notes)} if notes else {}), **card}
    try:
        out.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(recipe, seen, out, start, device=device)
        resumed = trainer.resume()
        watcher = Watcher(trainer, images.subset(aside), card)
        if not resumed and trainer.records is not None:
            for note in notes:
                trainer.records.append({"kind": "note", "images": 0, "note": note}, {})
        if not resumed and not start.from_scratch:
            _begin(trainer, watcher)
        trainer.run(stop=lambda: stop() or watcher.patience_is_over, check=watcher.check, progress=progress)
        finished = not stop()
        if finished and parallel.rank() == 0:
            watcher.finish(_until(stop, progress))
    except _Stopped:
        finished = False
    except OSError as fault:  # logs and sheets; networks and states say it themselves
        raise InputError(
            f"cannot write to {out} ({fault}); the last saved state is intact: make room, then give the same "
            "command again"
        ) from fault
    counts = trainer.images, finished, len(into), len(aside)
    return Run(out, *counts, images.skipped, watcher.best, watcher.memorisation, notes)


def _until(stop: Callable[[], bool], progress: Progress | None) -> Progress:
    def report(done: int, total: int) -> None:
        if stop():
            raise _Stopped
        if progress is not None:
            progress(done, total)

    return report


def _begin(trainer: Trainer, watcher: Watcher) -> None:
    """Prepare the networks, and check the base: what fine-tuning has to beat, and what `best/` is if it never does."""
    folded = fold_offsets(trainer)
    if folded is not None:
        trainer.log({"explained": folded}, "fold")
    match_mapping(trainer)
    if parallel.rank() == 0:
        watcher.check()
    trainer.save()
