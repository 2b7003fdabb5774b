"""How many photographs are aligned, and how fast.

``python -m benchmarks.align [PHOTOS] [--landmarks mesh|dlib68] [--workers 2] [--json]``: a folder of photographs, or,
without one, 40 faces of the bundled generator that were photographed by the simulated camera and enlarged to 256 px.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path

import click

from stylegan_surv.faces.detect import FINDERS, LandmarksName


def generated(folder: Path, n: int = 40) -> Path:
    """Write `n` photographs of generated faces."""
    import numpy as np
    import torch
    from PIL import Image

    from stylegan_surv import load_generator
    from stylegan_surv.faces import photograph

    generator = load_generator("synthetic-64")
    z = torch.randn(n, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = generator.synthesis(generator.mapping(z, truncation_psi=0.5), noise_mode="const")
    faces = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, face in enumerate(faces):
        photo = Image.fromarray(photograph(np.ascontiguousarray(face), seed=0, index=i, strength=0.5))
        photo.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{i:03d}.png")
    return folder


def measure(photos: Path, workers: int, size: int, landmarks: LandmarksName) -> dict[str, object]:
    """Align a folder once, from nothing."""
    from joblib.externals.loky import get_reusable_executor

    from stylegan_surv import align

    with tempfile.TemporaryDirectory() as out:
        start, busy = time.perf_counter(), _cpu()
        chips = align(photos, out, size=size, workers=workers, landmarks=landmarks)
        seconds = time.perf_counter() - start
        get_reusable_executor().shutdown(wait=True)  # the system counts the time of processes that have ended
        busy = _cpu() - busy
        return {
            "photos": len(chips),
            "aligned": len(chips.ok),
            "ratio": len(chips.ok) / len(chips),
            "turned": int((chips.ok["turned_deg"].abs() > 45).sum()),
            "in_doubt": int(chips.ok["in_doubt"].astype(bool).sum()),
            "by_cnn": int((chips.ok["detector"] == "cnn").sum()),
            "reasons": chips.failed["error"].value_counts().to_dict(),
            "workers": workers,
            "seconds": seconds,
            "cpu_seconds": busy,
            "photos_per_second": len(chips) / seconds,
        }


def _cpu() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--workers", default=2, show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--landmarks", type=click.Choice(list(FINDERS)), default="mesh", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(photos: Path | None, workers: int, size: int, landmarks: LandmarksName, as_json: bool) -> None:
    """Measure alignment on a folder of photographs."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(photos or generated(Path(folder)), workers, size, landmarks)
    click.echo(json.dumps(result) if as_json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
