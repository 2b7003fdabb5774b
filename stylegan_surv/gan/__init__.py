"""StyleGAN2: networks, checkpoints, training."""

from stylegan_surv.gan.formats.checkpoint import (
    load_discriminator,
    load_encoder,
    load_generator,
    save_network,
)
from stylegan_surv.gan.networks import (
    LPIPS,
    Discriminator,
    DiscriminatorConfig,
    Encoder,
    EncoderConfig,
    Generator,
    GeneratorConfig,
)

__all__ = [
    "LPIPS",
    "Discriminator",
    "DiscriminatorConfig",
    "Encoder",
    "EncoderConfig",
    "Generator",
    "GeneratorConfig",
    "load_discriminator",
    "load_encoder",
    "load_generator",
    "save_network",
]
