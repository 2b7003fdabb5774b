"""``stylegan-surv grow``: a generator and its encoder at twice the resolution, by one more block."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from stylegan_surv.cli._common import echo_json
from stylegan_surv.cli._progress import progress_bar

PATH = click.Path(path_type=Path)


@click.command("grow")
@click.option("--start", required=True, help="Name the pair to grow: a bundled name or a run's folder.")
@click.option(
    "--photos", required=True, type=PATH, help="Read chips of twice the generator's size from this folder."
)
@click.option(
    "-o", "--out", required=True, type=PATH, help="Write the run to this folder; an interrupted run goes on."
)
@click.option(
    "--recipe",
    "settings",
    required=True,
    type=PATH,
    help="Read all settings from a YAML file or a shipped recipe such as synthetic-128.",
)
@click.option("--images", type=int, help="Set the length of the run, in images, instead of the recipe's.")
@click.option("--seed", type=int, help="Set the seed, instead of the recipe's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(
    start: str,
    photos: Path,
    out: Path,
    settings: Path,
    images: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Double the resolution of a generator; codes and lower layers stay what they are.

    Interrupt it whenever you like: the same command goes on where it stopped.
    """
    from stylegan_surv.gan.training.grow import read_growth
    from stylegan_surv.gan.training.grow_run import grow
    from stylegan_surv.gan.training.runs import Interrupted

    recipe = read_growth(settings, images=images, seed=seed)
    with progress_bar("Growing") as report:
        run = grow(recipe, photos, out, start=start, stop=Interrupted(), progress=report)
    if as_json:
        echo_json({**asdict(run), "folder": str(run.folder)})
        return
    done = "finished" if run.finished else "interrupted, the same command goes on"
    errors = ", ".join(f"held-out {name} {value:.4f}" for name, value in run.errors.items())
    click.echo(f"{run.folder}: {run.images} images, {done}{'; ' * bool(errors)}{errors}")
