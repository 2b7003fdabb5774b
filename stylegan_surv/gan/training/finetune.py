"""Runs: from a recipe, a folder of chips and, when fine-tuning, a base generator, to a folder of results.

The folder holds ``state.safetensors`` (everything to go on from, bit for bit), ``generator.safetensors`` with its
``encoder`` and ``discriminator`` (the averages as of the last check), ``best/`` (as of the check with the lowest
held-out error), ``log.jsonl`` and sheets of samples and held-out reconstructions.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from stylegan_surv.cohort import Cohort
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.data import FINETUNE_SET, MIN_CHIPS, ImageSet, hold_out, of_cohort, read_chips
from stylegan_surv.gan.formats import provenance
from stylegan_surv.gan.formats.checkpoint import load_discriminator, load_encoder, load_generator
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
)
from stylegan_surv.gan.training import parallel
from stylegan_surv.gan.training.recipe import Recipe
from stylegan_surv.gan.training.train import Trainer
from stylegan_surv.gan.training.watch import PARTS, Watcher

FRESH = "no discriminator was found with the base: training began with a fresh one"
Progress = Callable[[int, int], None]


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
    folder : where everything is.
    images : real images seen so far.
    finished : False if it was interrupted; the same call goes on.
    trained_on, held_out : number of photographs.
    skipped : (photo, reason) of those that could not be used.
    best : held-out error of the best snapshot, by name; empty if nothing was held out.
    memorisation : whether the best snapshot copies (`gan.memorisation`); empty if too few were held out.
    notes : what its user has to know.
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
    recipe : all settings; with ``start``, its resolution is replaced by that of the networks.
    photos : folder of face chips.
    out : folder of the run; one that was interrupted there goes on.
    start : another run's folder, with ``generator.safetensors``, ``encoder.safetensors`` (where the recipe has a
        reconstruction part) and, if it is there, ``discriminator.safetensors`` to start from; or a generator as in
        :func:`finetune`, such as ``synthetic-64``.
    card : entries of the networks' cards, instead of the licence, data and provenance that the run knows of.
    """
    if start is None:
        nets: dict[str, Any] = dict(zip(("generator", "discriminator", "encoder"), fresh_networks(recipe)))
    else:
        last = Path(start).is_dir()  # not its best networks: a discriminator belongs to the last ones
        recipe, nets = _networks_of(
            {k: Path(start) / f"{k}.safetensors" if last else start for k in PARTS}, recipe, device
        )
    images = read_chips(photos, recipe.resolution, drop_captions=recipe.drop_captions)
    return _run(recipe, images, Path(out), nets, card or {}, start is None, stop, progress, device)


def finetune(
    base: str | Path,
    photos: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    cohort: Cohort | None = None,
    split: str | Path | None = None,
    chosen: str = FINETUNE_SET,
    encoder: str | Path | None = None,
    stop: Callable[[], bool] = never,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Run:
    """Fine-tune a pretrained generator on patients' photographs.

    Parameters
    ----------
    base : bundled name, our safetensors, an NVlabs pickle or a rosinality file.
    photos : folder of face chips, aligned as the base's were.
    out : folder of the run; one that was interrupted there goes on.
    recipe : settings; its resolution is replaced by the base's.
    cohort : says whose each photograph is. Without it every photograph counts as a patient of its own, and the cards
        name no patients.
    split : what ``stylegan-surv split`` wrote: only patients of its set ``chosen`` are used.
    encoder : encoder to train along; by default the base's own, where the recipe has a reconstruction part.

    Raises
    ------
    InputError
        If the photographs are too few, belong to nobody in the cohort, or the recipe asks for what the base lacks.
    """
    recipe, nets = _networks_of(dict.fromkeys(PARTS, base) | {"encoder": encoder or base}, recipe, device)
    images = read_chips(photos, recipe.resolution, drop_captions=recipe.drop_captions)
    if cohort is not None:
        images = of_cohort(images, cohort, split, chosen)
    elif split is not None:
        raise InputError(
            "a split names patients: give the cohort table too, which says whose each photograph is"
        )
    return _run(recipe, images, Path(out), nets, {}, False, stop, progress, device)


def _card(nets: Mapping[str, Any], seen: ImageSet) -> dict[str, Any]:
    """Licence, data, base and provenance of networks that go on from ``nets`` with these photographs."""
    base = nets["generator"].card
    bases = [net.card for net in (nets["generator"], nets.get("encoder")) if net is not None and net.card]
    # the key of the patients' hashes: the same when a run goes on, another for another run
    salt = parallel.fingerprint([str(base.get("sha256")), *seen.ids, *seen.patients]) * 2
    whose = f" of {len(set(seen.owners))} patients" if seen.owners else ""
    return {
        "licence": base.get("licence", "not stated"),
        "data": f"{'fine-tuned' if base else 'trained'} on {len(seen)} photographs{whose}",
        "base": base.get("sha256"),
        "provenance": provenance.record(seen.pixels, seen.owners or None, base=bases, salt=salt),
    }


def _run(
    recipe: Recipe,
    images: ImageSet,
    out: Path,
    nets: dict[str, Any],
    card: dict[str, Any],
    from_scratch: bool,
    stop: Callable[[], bool],
    progress: Progress | None,
    device: str,
) -> Run:
    if recipe.micros % parallel.world():
        raise InputError(
            f"{parallel.world()} processes cannot share {recipe.micros} micro-batches: set `micros` to a multiple"
        )
    into, aside = hold_out(images.patients, recipe.hold_out, recipe.seed)
    if len(into) < MIN_CHIPS:
        raise InputError(f"{len(into)} chips are left to train on; expected at least {MIN_CHIPS}")
    if out.exists() and not out.is_dir():
        raise InputError(
            f"{out} is a file; expected a folder for the run, a new one or that of a run to go on"
        )
    critic = nets.get("discriminator")
    notes = (FRESH,) if critic is not None and not critic.card and not from_scratch else ()
    seen = images.subset(into)
    card = {"name": recipe.name, **_card(nets, seen), **({"notes": list(notes)} if notes else {}), **card}
    try:
        out.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(recipe, seen, out, **nets, from_scratch=from_scratch, device=device)
        resumed = trainer.resume()
        watcher = Watcher(trainer, images.subset(aside), card)
        if not resumed and trainer.records is not None:
            for note in notes:
                trainer.records.append({"kind": "note", "images": 0, "note": note}, {})
        if not resumed and not from_scratch:
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
    folded = trainer.fold_offsets()
    if folded is not None:
        trainer.log({"explained": folded}, "fold")
    trainer.fit_mapping()
    if parallel.rank() == 0:
        watcher.check()
    trainer.save()


# ------------------------------------------------------------------------------------------------------- networks


def fresh_networks(recipe: Recipe) -> tuple[Generator, Discriminator, Encoder]:
    """Networks of the recipe's sizes with random weights (a function of its seed)."""
    torch.manual_seed(recipe.seed)
    n, res = recipe.networks, recipe.resolution
    config = GeneratorConfig(
        res,
        n.z_dim,
        n.w_dim,
        mapping_layers=n.mapping_layers,
        channel_base=n.generator_base,
        channel_max=n.channel_max,
    )
    critic = DiscriminatorConfig(res, channel_base=n.discriminator_base, channel_max=n.channel_max)
    encoder = EncoderConfig(res, config.num_ws, n.w_dim, n.encoder_base, n.channel_max)
    return Generator(config), Discriminator(critic), Encoder(encoder)


def _networks_of(
    sources: Mapping[str, str | Path], recipe: Recipe, device: str
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe at the generator's resolution, and the networks that it needs, each from its source."""
    base = sources["generator"]
    generator = load_generator(base, device)
    config = generator.config
    if config.c_dim or config.img_channels != 3:
        raise InputError(
            f"{base} has labels of {config.c_dim} and {config.img_channels} colour channels; expected an unconditional "
            "generator (labels of 0) of 3 channels"
        )
    recipe = recipe.model_copy(update={"resolution": config.resolution})
    nets: dict[str, Any] = {"generator": _raw(base, generator, device), "average": generator}
    if recipe.adversarial:
        nets["discriminator"] = _discriminator(sources["discriminator"], generator, recipe, device)
    if recipe.reconstruction:
        nets["encoder"] = _encoder(sources["encoder"], generator, device)
    return recipe, nets


def _encoder(source: str | Path, generator: Generator, device: str) -> Encoder:
    """The encoder that the recipe's reconstruction part trains along."""
    try:
        encoder = load_encoder(source, device)
    except InputError as lacking:
        raise InputError(
            f"the recipe trains an encoder along, and there is none ({lacking}): name one by --encoder, or set "
            "reconstruction to null"
        ) from lacking
    shape, config = encoder.shape, generator.config
    theirs, ours = ((c.resolution, c.num_ws, c.w_dim) for c in (shape, config))
    if theirs != ours:
        raise InputError(
            f"the encoder {source} is for (resolution, styles, dimensions) {theirs}; the generator has {ours}"
        )
    return encoder


def _raw(base: str | Path, average: Generator, device: str) -> Generator:
    """The generator as trained, where the base holds it beside its average (NVlabs and rosinality files)."""
    try:
        raw = load_generator(base, device, network="G")
    except InputError:
        return load_generator(base, device)
    return raw if raw.config == average.config else load_generator(base, device)


def _discriminator(source: str | Path, generator: Generator, recipe: Recipe, device: str) -> Discriminator:
    """The base's discriminator, or where it has none a fresh one, without a card, of the generator's width."""
    config = generator.config
    try:
        critic = load_discriminator(source, device)
    except Refused:
        raise
    except InputError as lacking:
        if Path(source).name == "discriminator.safetensors" and Path(source).is_file():
            raise  # it is there, and cannot be read
        if recipe.adversarial and recipe.adversarial.freeze:
            raise InputError(
                f"{source} has no discriminator ({lacking}): freeze-D needs one; set adversarial.freeze to 0"
            ) from lacking
        torch.manual_seed(recipe.seed)
        shape = DiscriminatorConfig(
            config.resolution, channel_base=config.channel_base, channel_max=config.channel_max
        )
        return Discriminator(shape).to(device)
    theirs, ours = ((c.resolution, c.img_channels, c.c_dim) for c in (critic.config, config))
    if theirs != ours:
        raise InputError(
            f"the discriminator {source} is for (resolution, channels, labels) {theirs}; the generator has {ours}"
        )
    return critic
