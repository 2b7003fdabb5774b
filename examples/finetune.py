"""Fine-tune the bundled generator and encoder on a folder of chips, then see whether held-out faces are drawn better.

Uses faces that the bundled generator itself draws, warmer and lower in contrast, so that nobody's picture is needed and
the run takes a minute or two on one core.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from PIL import Image

import stylegan_surv as ss
from stylegan_surv.gan.training import finetune, read_recipe

CONFIG = Path(__file__).parent.parent / "configs" / "finetune-64.yaml"
WARMER = torch.tensor([0.8, 0.6, 0.45]).view(1, 3, 1, 1)


def main(out: Path, photographs: int = 64, images: int = 320) -> None:
    """Write chips, fine-tune on them, print the held-out error at every check."""
    chips = out / "chips"
    chips.mkdir(parents=True, exist_ok=True)
    generator = ss.load_generator("synthetic-64")
    z = torch.randn(photographs, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = generator.synthesis(generator.mapping(z, truncation_psi=0.8))
    levels = ((drawn.clamp(-1, 1) * WARMER + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    for i, pixels in enumerate(levels):
        Image.fromarray(pixels).save(chips / f"{i:03d}.png")

    recipe = read_recipe(CONFIG, images=images, check_images=images // 4, ema_images=100.0)
    run = finetune("synthetic-64", chips, out / "run", recipe)
    for line in (run.folder / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "check":
            print(
                f"{record['images']:5d} images: held-out LPIPS {record['lpips']:.4f}, MSE {record['mse']:.4f}"
            )
    print(f"best snapshot: {run.folder / 'best'}")


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp()))
