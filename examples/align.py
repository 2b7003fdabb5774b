"""Photograph some generated faces, align the photographs, and look at what is measured on them.

``python examples/align.py [PHOTOS]``; without a folder the bundled generator and the simulated camera make one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

import stylegan_surv as ss
from stylegan_surv.faces import photograph, same_picture


def main() -> None:
    """Align a folder into a temporary one."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(sys.argv[1]) if len(sys.argv) > 1 else _photographs(Path(folder) / "photos")
        chips = ss.align(photos, Path(folder) / "chips", size=256)
        print(f"{len(chips.ok)} of {len(chips)} photographs aligned")
        print(chips.failed[["photo_id", "error"]].to_string(index=False))
        print(
            chips.ok[["photo_id", "score", "detector", "inter_eye_px", "yaw", "brightness"]].round(2).head()
        )
        print(f"{len(same_picture(chips))} pairs show the same picture")


def _photographs(folder: Path) -> Path:
    generator = ss.load_generator("synthetic-64")
    z = torch.randn(12, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = generator.synthesis(generator.mapping(z, truncation_psi=0.5), noise_mode="const")
    faces = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    folder.mkdir()
    for i, face in enumerate(faces):
        photo = Image.fromarray(photograph(face, seed=0, index=i, strength=0.5))
        photo.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")
    return folder


if __name__ == "__main__":
    main()
