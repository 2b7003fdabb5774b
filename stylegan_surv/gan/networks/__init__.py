"""Generator, discriminator, encoder, their configurations, and the perceptual distance."""

from stylegan_surv.gan.networks.config import (
    Architecture,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    resolutions,
)
from stylegan_surv.gan.networks.discriminator import Discriminator, Trunk
from stylegan_surv.gan.networks.ema import ema_decay, update_ema
from stylegan_surv.gan.networks.encoder import Encoder
from stylegan_surv.gan.networks.feature_critic import FeatureCritic
from stylegan_surv.gan.networks.generator import Generator, NoiseMode, Synthesis, SynthesisBlock
from stylegan_surv.gan.networks.layers import FullyConnected, binomial_filter, unit_rms, upsample
from stylegan_surv.gan.networks.mapping import Mapping
from stylegan_surv.gan.networks.perceptual import LPIPS

__all__ = [
    "Architecture",
    "Discriminator",
    "DiscriminatorConfig",
    "Encoder",
    "EncoderConfig",
    "FeatureCritic",
    "FullyConnected",
    "Generator",
    "GeneratorConfig",
    "LPIPS",
    "Mapping",
    "NoiseMode",
    "Synthesis",
    "SynthesisBlock",
    "Trunk",
    "binomial_filter",
    "ema_decay",
    "resolutions",
    "unit_rms",
    "update_ema",
    "upsample",
]
