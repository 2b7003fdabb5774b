"""Embed a few photographs, look at the quality, and see that a failed one shifts no name.

``python examples/embed.py [CHIPS]``; without a folder the bundled generator and the simulated camera make one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import stylegan_surv as ss
from stylegan_surv.faces import Chips, photograph
from stylegan_surv.inversion.quality import summarise


def main() -> None:
    """Encoder and hybrid, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        chips = Chips.open(sys.argv[1]) if len(sys.argv) > 1 else _chips(Path(folder) / "chips")
        for method in ("encoder", "hybrid"):
            out = Path(folder) / method
            latents = ss.embed(chips, out=out, method=method)
            print(f"{method}: {summarise(out)}")
        print(latents.rows[["photo_id", "lpips", "mse", "distance", "steps"]].head().to_string(index=False))
        again = ss.Latents.open(out)
        print(f"w_plus {again.w_plus.shape}, {len(again.failed)} failed: {list(again.failed['photo_id'])}")


def _chips(folder: Path) -> Chips:
    generator = ss.load_generator("synthetic-64")
    z = torch.randn(12, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = generator(z, truncation_psi=0.7).clamp(-1, 1)
    faces = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    shots = [photograph(face, seed=0, index=i) for i, face in enumerate(faces)]
    made = Chips.create(folder, shots, [f"P{i:02d}" for i in range(len(shots))])
    (folder / "P05.png").write_bytes(b"a scanner that was switched off")
    return made


if __name__ == "__main__":
    main()
