"""A training run small enough for tests: 32 px, a few thousand weights; used by tests/test_train*.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from stylegan_surv.gan.data import ImageSet
from stylegan_surv.gan.training import Recipe, Trainer, from_scratch, make_recipe

SMALL = {
    "name": "test",
    "resolution": 32,
    "images": 10_000,
    "micro_batch": 4,
    "micros": 2,
    "samples": 4,
    "save_seconds": 1e9,
    "networks": {
        "z_dim": 16,
        "w_dim": 16,
        "mapping_layers": 2,
        "generator_base": 128,
        "discriminator_base": 128,
        "encoder_base": 128,
        "channel_max": 8,
    },
    "reconstruction": {"bank": 16, "projections": 16, "fit_mapping": 20},
    "adversarial": {"r1_every": 2, "path_weight": 2.0, "style_mixing": 0.9, "ada_start": 0.3},
    "features": {"every": 2},
    "light_augment": {},
}


def small_recipe(**changes: Any) -> Recipe:
    return make_recipe({**SMALL, **changes})


def blobs(n: int = 24, resolution: int = 32, seed: int = 0) -> ImageSet:
    """Smooth random pictures."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    pixels = [np.asarray(Image.fromarray(c).resize((resolution, resolution))) for c in coarse]
    return ImageSet(tuple(f"p{i:02d}" for i in range(n)), np.stack(pixels))


def small_trainer(out: Path, device: str = "cpu", **changes: Any) -> Trainer:
    recipe = small_recipe(**changes)
    out.mkdir(parents=True, exist_ok=True)
    return Trainer(recipe, blobs(), out, from_scratch(recipe), device=device)


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All tensors of a run's state."""
    from stylegan_surv.gan.training.state import tensors_of

    return {
        f"{n}/{k}": v.clone() for n, thing in trainer.objects().items() for k, v in tensors_of(thing).items()
    }


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What the last step's optimisers were given, by network; reduced over all processes."""
    players = {"G": trainer.players.G, "E": trainer.players.E, "D": trainer.players.D, "C": trainer.players.C}
    return {
        f"{name}/{k}": p.grad.clone()
        for name, net in players.items()
        if net is not None
        for k, p in net.named_parameters()
        if p.grad is not None
    }


def _join(rank: int, world: int, port: int) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)


def _main() -> None:
    """``python training.py OUT STEPS [RANK WORLD PORT PRECISION]``: train on; alone, save every step.

    One of several processes saves at the end, and leaves its last gradients in ``gradients-RANK.safetensors``.
    """
    torch.set_num_threads(1)
    out, steps = Path(sys.argv[1]), int(sys.argv[2])
    shared = len(sys.argv) > 3
    changes: dict[str, Any] = {"precision": sys.argv[6]} if shared else {}
    if shared:
        _join(*map(int, sys.argv[3:6]))
    trainer = small_trainer(out, **changes)
    trainer.resume()
    while trainer.step < steps:
        trainer.train_step()
        if not shared:
            trainer.save()
    trainer.save()
    if shared:
        save_file(gradients(trainer), out / f"gradients-{sys.argv[3]}.safetensors")


if __name__ == "__main__":
    _main()
