"""What a run begins with: networks of random weights, or those of a base, each from its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.formats import load_discriminator, load_encoder, load_generator
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
)
from stylegan_surv.gan.training.recipe import Recipe
from stylegan_surv.gan.training.streams import Streams, drawn_from

PARTS = ("generator", "encoder", "discriminator")
Sources = Mapping[str, str | Path]  # where each part of PARTS comes from


@dataclass(frozen=True)
class Start:
    """Networks that a run begins with.

    Attributes
    ----------
    generator : Generator
        As trained.
    discriminator : Discriminator, optional
        None where the recipe has no adversarial part.
    encoder : Encoder, optional
        None where the recipe has no reconstruction part.
    average : Generator, optional
        The generator's running average to go on from; None: the average begins as a copy.
    from_scratch : bool
        Whether the weights are random: then the averages' half-life grows with the run (StyleGAN2's ramp).
    """

    generator: Generator
    discriminator: Discriminator | None = None
    encoder: Encoder | None = None
    average: Generator | None = None
    from_scratch: bool = False

    @property
    def has_fresh_discriminator(self) -> bool:
        """Whether the base had none, and a new one stands in."""
        return self.discriminator is not None and not self.discriminator.card and not self.from_scratch

    def digests(self) -> dict[str, object]:
        """SHA-256 of the files that the networks come from, None for fresh ones: what a run goes on with."""
        nets = {"generator": self.generator, "encoder": self.encoder, "discriminator": self.discriminator}
        return {f"base {name}": net.card.get("sha256") for name, net in nets.items() if net is not None}


def fresh_networks(recipe: Recipe) -> tuple[Generator, Discriminator, Encoder]:
    """Networks of the recipe's sizes with random weights (a function of its seed)."""
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
    with drawn_from(Streams(recipe.seed).networks):
        return Generator(config), Discriminator(critic), Encoder(encoder)


def from_scratch(recipe: Recipe) -> Start:
    """A start with :func:`fresh_networks`."""
    return Start(*fresh_networks(recipe), from_scratch=True)


def from_networks(sources: Sources, recipe: Recipe, device: str) -> tuple[Recipe, Start]:
    """The recipe at the generator's resolution, and the networks that it needs, each from its source.

    Raises
    ------
    InputError
        If the generator is conditional or not of three channels, or a network is missing or belongs to another.
    """
    base = sources["generator"]
    generator = load_generator(base, device)
    config = generator.config
    if config.c_dim or config.img_channels != 3:
        raise InputError(
            f"{base} has labels of {config.c_dim} and {config.img_channels} colour channels; expected an unconditional "
            "generator (labels of 0) of 3 channels"
        )
    recipe = recipe.model_copy(update={"resolution": config.resolution})
    critic = (
        _discriminator(sources["discriminator"], generator, recipe, device) if recipe.adversarial else None
    )
    encoder = _encoder(sources["encoder"], generator, device) if recipe.reconstruction else None
    return recipe, Start(_raw(base, generator, device), critic, encoder, average=generator)


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
        shape = DiscriminatorConfig(
            config.resolution, channel_base=config.channel_base, channel_max=config.channel_max
        )
        with drawn_from(Streams(recipe.seed).networks):
            return Discriminator(shape).to(device)
    theirs, ours = ((c.resolution, c.img_channels, c.c_dim) for c in (critic.config, config))
    if theirs != ours:
        raise InputError(
            f"the discriminator {source} is for (resolution, channels, labels) {theirs}; the generator has {ours}"
        )
    return critic
