"""``stylegan-surv train``: a generator and its encoder from scratch, or on from another run's networks."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.cli._training import echo_run, run_options


@click.command("train")
@run_options
@click.option("--start", help="Start from a run's folder, a generator's file or a bundled name.")
def command(
    photos: Path,
    out: Path,
    settings: Path,
    overrides: tuple[str, ...],
    images: int | None,
    seed: int | None,
    device: str,
    as_json: bool,
    start: str | None,
) -> None:
    """Train a generator with its encoder on a folder of chips.

    Interrupt it whenever you like: the same command goes on where it stopped.
    """
    from stylegan_surv.gan.training import Interrupted, parallel, read_recipe, train

    recipe = read_recipe(settings, overrides, images=images, seed=seed)
    with parallel.session(device) as place, progress_bar("Training") as report:
        show = report if parallel.rank() == 0 else None
        run = train(recipe, photos, out, start=start, stop=Interrupted(), progress=show, device=place)
        first = parallel.rank() == 0
    if first:
        echo_run(run, as_json)
