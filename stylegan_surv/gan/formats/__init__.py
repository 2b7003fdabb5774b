"""Checkpoints: our own, NVlabs, rosinality; the bundled zoo; what networks were trained on."""

from stylegan_surv.gan.formats.checkpoint import (
    Converted,
    amend_card,
    convert,
    find,
    load_discriminator,
    load_encoder,
    load_generator,
    read_card,
    save_network,
)

__all__ = [
    "Converted",
    "amend_card",
    "convert",
    "find",
    "load_discriminator",
    "load_encoder",
    "load_generator",
    "read_card",
    "save_network",
]
