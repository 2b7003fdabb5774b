"""``stylegan-surv train``: a generator and its encoder from scratch, or on from a folder of networks."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import progress_bar


@click.command("train")
@click.option("--recipe", type=click.Path(path_type=Path), required=True, help="YAML file, see configs/.")
@click.option("--photos", type=click.Path(path_type=Path), required=True, help="Folder of aligned chips.")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the run; a run found there goes on.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    help="Folder with generator, encoder and discriminator to start from.",
)
@click.option("--device", default="cpu", show_default=True)
def command(recipe: Path, photos: Path, out: Path, start: Path | None, device: str) -> None:
    """Train a generator with its encoder on a folder of chips."""
    from stylegan_surv.gan.finetune import Interrupted, train
    from stylegan_surv.gan.recipe import read_recipe

    with progress_bar("train") as report:
        run = train(
            read_recipe(recipe), photos, out, start=start, stop=Interrupted(), progress=report, device=device
        )
    click.echo(f"{run.images} images; networks, grids and log in {out}")
