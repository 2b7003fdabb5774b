"""``stylegan-surv finetune``: a pretrained generator on patients' photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, progress_bar, table_options

if TYPE_CHECKING:
    from stylegan_surv.gan.training.finetune import Run

PATH = click.Path(path_type=Path)
RUN_OPTIONS = (
    click.option(
        "--photos", required=True, type=PATH, help="Folder of chips that `stylegan-surv align` wrote."
    ),
    click.option(
        "-o", "--out", required=True, type=PATH, help="Folder of the run; an interrupted run there goes on."
    ),
    click.option(
        "--recipe",
        "settings",
        required=True,
        type=PATH,
        help="All settings: a YAML file, or a shipped recipe such as finetune.",
    ),
    click.option("--images", type=int, help="Length of the run, instead of the recipe's."),
    click.option("--seed", type=int, help="Instead of the recipe's."),
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="cpu or cuda; under torchrun each process takes its GPU.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line."),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `train` and `finetune` share."""
    for option in reversed(RUN_OPTIONS):
        command = option(command)
    return command


@click.command("finetune")
@click.option(
    "--base", default="synthetic-64", show_default=True, help="Generator to start from: file or bundled name."
)
@run_options
@click.option("--cohort", "table", type=PATH, help="Clinical table: says whose each photograph is.")
@table_options
@click.option(
    "--split", type=PATH, help="What `stylegan-surv split` wrote: only one set's patients are used."
)
@click.option("--set", "chosen", default="finetune", show_default=True, help="The set of the split.")
@click.option("--encoder", help="Encoder to train along, by default the base's own.")
def command(
    base: str,
    photos: Path,
    out: Path,
    settings: Path,
    images: int | None,
    seed: int | None,
    device: str,
    as_json: bool,
    table: Path | None,
    reading: TableOptions,
    split: Path | None,
    chosen: str,
    encoder: str | None,
) -> None:
    """Fine-tune a generator; several GPUs by `torchrun --nproc-per-node 4 -m stylegan_surv finetune ...`.

    Interrupt it whenever you like (Ctrl-C, SIGTERM, even a power cut): the same command goes on where it stopped.
    """
    from stylegan_surv.gan.training import parallel
    from stylegan_surv.gan.training.finetune import Interrupted, finetune
    from stylegan_surv.gan.training.recipe import read_recipe

    recipe = read_recipe(settings, images=images, seed=seed)
    cohort = None if table is None else reading.read(table, photos, check_photos=False)
    with parallel.session(device) as place, progress_bar("Fine-tuning") as report:
        run = finetune(
            base,
            photos,
            out,
            recipe,
            cohort=cohort,
            split=split,
            chosen=chosen,
            encoder=encoder,
            stop=Interrupted(),
            progress=report if parallel.rank() == 0 else None,
            device=place,
        )
        first = parallel.rank() == 0
    if first:
        echo_run(run, as_json)


def echo_run(run: Run, as_json: bool) -> None:
    """What a run left, as one JSON line or in words."""
    if as_json:
        echo_json({**asdict(run), "folder": str(run.folder), "skipped": len(run.skipped)})
        return
    for photo, reason in run.skipped[:20]:
        click.echo(f"skipped {photo}: {reason}", err=True)
    if len(run.skipped) > 20:
        click.echo(f"… and {len(run.skipped) - 20} more", err=True)
    for note in run.notes:
        click.echo(f"note: {note}")
    done = "finished" if run.finished else "interrupted, the same command goes on"
    best = f"; best held-out LPIPS {run.best['lpips']:.4f} (best/)" if run.best else ""
    click.echo(f"{run.images} images, {done}{best}. Networks, sheets and log: {run.folder}")
    for measure, found in run.memorisation.items():
        click.echo(
            f"copies? by {measure}: {found['closer']:.0%} of samples closer to a training photograph than 95 % "
            f"of the held-out ones are, {found['isolated']:.0%} close to one alone (5 % is chance)"
        )
