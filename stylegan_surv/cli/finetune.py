"""``stylegan-surv finetune``: a pretrained generator on patients' photographs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from stylegan_surv.cli._common import echo_json, progress_bar

PATH = click.Path(path_type=Path)


@click.command("finetune")
@click.option(
    "--base", default="synthetic-64", show_default=True, help="Generator to start from: file or bundled name."
)
@click.option("--photos", required=True, type=PATH, help="Folder of chips that `stylegan-surv align` wrote.")
@click.option(
    "-o", "--out", required=True, type=PATH, help="Folder of the run; an interrupted run there goes on."
)
@click.option(
    "--recipe", "settings", required=True, type=PATH, help="YAML file with all settings, see configs/."
)
@click.option("--cohort", "table", type=PATH, help="Clinical table: says whose each photograph is.")
@click.option(
    "--split", type=PATH, help="What `stylegan-surv split` wrote: only its `finetune` patients are used."
)
@click.option("--encoder", help="Encoder to train along, by default the base's own.")
@click.option("--images", type=int, help="Length of the run, instead of the recipe's.")
@click.option("--seed", type=int, help="Instead of the recipe's.")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu or cuda; under torchrun each process takes its GPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(
    base: str,
    photos: Path,
    out: Path,
    settings: Path,
    table: Path | None,
    split: Path | None,
    encoder: str | None,
    images: int | None,
    seed: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Fine-tune a generator; several GPUs by `torchrun --nproc-per-node 4 -m stylegan_surv finetune ...`.

    Interrupt it whenever you like (Ctrl-C, SIGTERM, even a power cut): the same command goes on where it stopped.
    """
    from stylegan_surv.cohort import read_cohort
    from stylegan_surv.gan import parallel
    from stylegan_surv.gan.finetune import Interrupted, finetune
    from stylegan_surv.gan.recipe import read_recipe

    recipe = read_recipe(settings, images=images, seed=seed)
    cohort = None if table is None else read_cohort(table, photos, check_photos=False)
    with parallel.session(device) as place, progress_bar("Fine-tuning") as report:
        run = finetune(
            base,
            photos,
            out,
            recipe,
            cohort=cohort,
            split=split,
            encoder=encoder,
            stop=Interrupted(),
            progress=report if parallel.rank() == 0 else None,
            device=place,
        )
        first = parallel.rank() == 0
    if first and as_json:
        echo_json({**asdict(run), "folder": str(run.folder), "skipped": len(run.skipped)})
    elif first:
        for photo, reason in run.skipped[:20]:
            click.echo(f"skipped {photo}: {reason}", err=True)
        done = "finished" if run.finished else "interrupted, the same command goes on"
        best = f"; best held-out LPIPS {run.best['lpips']:.4f} (best/)" if run.best else ""
        click.echo(f"{run.images} images, {done}{best}. Networks, sheets and log: {run.folder}")
        for measure, found in run.memorisation.items():
            click.echo(
                f"copies? by {measure}: {found['closer']:.0%} of samples closer to a training photograph than 95 % "
                f"of the held-out ones are, {found['isolated']:.0%} close to one alone (5 % is chance)"
            )
