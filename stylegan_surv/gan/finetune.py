"""Runs: from a recipe, a folder of chips and, when fine-tuning, a base generator, to a folder of results."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from stylegan_surv.gan.checkpoint import load_discriminator, load_encoder, load_generator
from stylegan_surv.gan.data import hold_out, read_chips
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
)
from stylegan_surv.gan.recipe import Recipe
from stylegan_surv.gan.train import Trainer
from stylegan_surv.gan.watch import Watcher


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


def train(
    recipe: Recipe,
    photos: str | Path,
    out: str | Path,
    *,
    start: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Trainer:
    """Train from scratch, or go on from ``start``, a folder with generator, encoder and discriminator files."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    images = read_chips(photos, recipe.resolution, drop_captions=recipe.drop_captions)
    into, aside = hold_out(images.ids, recipe.hold_out, recipe.seed)
    nets: dict[str, Any] = {}
    if start is None:
        nets = dict(zip(("generator", "discriminator", "encoder"), fresh_networks(recipe)))
    else:
        nets = _read_networks(Path(start), device)
    trainer = Trainer(recipe, images.subset(into), out, **nets, from_scratch=start is None, device=device)
    watcher = Watcher(trainer, images.subset(aside))
    if not trainer.resume() and start is not None:
        trainer.fit_mapping()
    trainer.run(stop=stop, check=watcher.check, progress=progress)
    return trainer


def _read_networks(folder: Path, device: str) -> dict[str, Any]:
    average = load_generator(folder / "generator.safetensors", device)
    raw = folder / "generator.raw.safetensors"
    return {
        "generator": load_generator(raw if raw.exists() else folder / "generator.safetensors", device),
        "average": average,
        "discriminator": load_discriminator(folder / "discriminator.safetensors", device),
        "encoder": load_encoder(folder / "encoder.safetensors", device),
    }
