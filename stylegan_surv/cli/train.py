"""``stylegan-surv train``: a generator and its encoder from scratch, or on from another run's networks."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import progress_bar

PATH = click.Path(path_type=Path)


@click.command("train")
@click.option(
    "--recipe", "settings", type=PATH, required=True, help="YAML file with all settings, see configs/."
)
@click.option("--photos", type=PATH, required=True, help="Folder of face chips.")
@click.option(
    "-o", "--out", type=PATH, required=True, help="Folder of the run; an interrupted run there goes on."
)
@click.option("--start", help="Start from a run's folder or a bundled name.")
@click.option("--device", default="cpu", show_default=True)
def command(settings: Path, photos: Path, out: Path, start: str | None, device: str) -> None:
    """Train a generator with its encoder on a folder of chips."""
    from stylegan_surv.gan import parallel
    from stylegan_surv.gan.finetune import Interrupted, train
    from stylegan_surv.gan.recipe import read_recipe

    with parallel.session(device) as place, progress_bar("Training") as report:
        show = report if parallel.rank() == 0 else None
        run = train(
            read_recipe(settings), photos, out, start=start, stop=Interrupted(), progress=show, device=place
        )
    click.echo(f"{run.images} images; networks, sheets and log: {run.folder}")
