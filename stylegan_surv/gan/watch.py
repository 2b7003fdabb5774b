"""Looking at a run: held-out reconstructions, sheets of samples, and the networks as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv.gan.checkpoint import save_network
from stylegan_surv.gan.data import ImageSet
from stylegan_surv.gan.grids import save_grid
from stylegan_surv.gan.networks import Encoder, Generator
from stylegan_surv.gan.perceptual import LPIPS
from stylegan_surv.gan.train import Trainer

SHEET = 64  # samples on a sheet
CHUNK = 64  # images at a time


@torch.no_grad()
def reconstruction_errors(
    generator: Generator, encoder: Encoder, images: ImageSet, lpips: LPIPS
) -> tuple[dict[str, float], Tensor]:
    """How well encoder and generator redraw images that they were not trained on.

    Returns
    -------
    errors : ``lpips`` and ``mse`` ([−1, 1] scale) from w and offsets, and ``lpips_w``, ``mse_w`` from w alone; means.
    sheet : Tensor [96 or fewer, 3, h, w]: rows of 16 originals, reconstructions, reconstructions from w alone.
    """
    totals = dict.fromkeys(("lpips", "mse", "lpips_w", "mse_w"), 0.0)
    sheet: list[Tensor] = []
    like = next(generator.parameters())
    for at in range(0, len(images), CHUNK):
        real = images.images(slice(at, at + CHUNK)).to(like)
        w, offsets = encoder.split(real)
        both = generator.synthesis(w.unsqueeze(1) + offsets)
        only = generator.synthesis(w.unsqueeze(1).expand(-1, generator.config.num_ws, -1))
        for drawn, suffix in ((both, ""), (only, "_w")):
            totals[f"lpips{suffix}"] += float(lpips(drawn, real).sum())
            totals[f"mse{suffix}"] += float((drawn - real).square().mean(dim=(1, 2, 3)).sum())
        if at == 0:
            sheet = [drawn[k : k + 16] for k in (0, 16) for drawn in (real, both, only)]
    return {k: v / len(images) for k, v in totals.items()}, torch.cat(sheet)


class Watcher:
    """Checks a trainer's averaged networks on held-out images and writes what there is to see."""

    def __init__(self, trainer: Trainer, held_out: ImageSet, card: dict[str, Any] | None = None) -> None:
        self.trainer, self.held_out, self.card = trainer, held_out, card or {}
        self.latest: dict[str, float] = {}

    @torch.no_grad()
    def check(self) -> None:
        """Write sheets, networks and a ``check`` line of the log."""
        t = self.trainer
        z = torch.randn(SHEET, t.G_ema.config.z_dim, generator=torch.Generator().manual_seed(t.recipe.seed))
        for psi in (1.0, 0.7):
            images = t.G_ema.synthesis(t.G_ema.mapping(z.to(t.bank), truncation_psi=psi))
            save_grid(images, t.out / f"samples-psi{psi:g}.png", columns=16)
        if t.E_ema is not None and len(self.held_out):
            self.latest, sheet = reconstruction_errors(t.G_ema, t.E_ema, self.held_out, t.players.lpips)
            save_grid(sheet, t.out / "reconstructions.png", columns=16)
            t.log(self.latest, "check")
        self.publish(t.out)

    def publish(self, folder: Path, *, half: bool = False) -> None:
        """Write the averaged generator and encoder and the discriminator, with the run's card."""
        t = self.trainer
        card = {**self.card, "images": t.images, "cpu_hours": round(t.cpu_seconds / 3600, 2), **self.latest}
        nets = {"generator": t.G_ema, "encoder": t.E_ema, "discriminator": t.players.D}
        for name, net in nets.items():
            if net is not None:
                save_network(net, folder / f"{name}.safetensors", card, half=half)
