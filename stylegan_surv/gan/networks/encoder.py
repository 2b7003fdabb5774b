"""The encoder: an image to W+ (after Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation")."""

from __future__ import annotations

from torch import Tensor

from stylegan_surv.gan.networks.config import DiscriminatorConfig, EncoderConfig
from stylegan_surv.gan.networks.discriminator import Trunk
from stylegan_surv.gan.networks.resampling import reduced


class Encoder(Trunk):
    """Image to W+: one w and small offsets per layer, ``w_plus[l] = w + offset[l]`` (Tov et al. 2021, e4e)."""

    def __init__(self, config: EncoderConfig) -> None:
        outputs = config.w_dim * (1 + config.num_ws)
        super().__init__(
            DiscriminatorConfig(
                config.resolution,
                channel_base=config.channel_base,
                channel_max=config.channel_max,
                img_channels=config.img_channels,
                mbstd_group=0,
                out_features=outputs,
            )
        )
        self.shape = config

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """w [n, w_dim] and offsets [n, num_ws, w_dim] of images in [−1, 1], made smaller where they are larger."""
        y = self.features(reduced(images, self.shape.resolution))
        w_dim = self.shape.w_dim
        return y[:, :w_dim], y[:, w_dim:].view(-1, self.shape.num_ws, w_dim)

    def forward(self, images: Tensor) -> Tensor:
        """``w_plus`` [n, num_ws, w_dim] of images [n, 3, h, h] in [−1, 1], h at least `shape.resolution`."""
        w, offsets = self.split(images)
        return w.unsqueeze(1) + offsets
