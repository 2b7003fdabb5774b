"""``stylegan-surv finetune``: a pretrained generator on patients' photographs."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import TableOptions
from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.cli._training import echo_run, patient_options, patients_of, run_options
from stylegan_surv.errors import InputError


@click.command("finetune")
@click.option(
    "--base",
    default="synthetic-64",
    show_default=True,
    help="Start from this generator: file or bundled name.",
)
@run_options
@patient_options
@click.option("--encoder", help="Train this encoder along, by default the base's own.")
def command(
    base: str,
    photos: Path,
    out: Path,
    settings: Path,
    overrides: tuple[str, ...],
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
    from stylegan_surv.gan.training import Interrupted, finetune, parallel, read_recipe

    recipe = read_recipe(settings, overrides, images=images, seed=seed)
    if encoder is not None and recipe.reconstruction is None:
        raise InputError(
            "--encoder does nothing: this recipe trains no encoder along (its reconstruction is null)"
        )
    patients = patients_of(photos, table, reading, split, chosen)
    with parallel.session(device) as place, progress_bar("Fine-tuning") as report:
        run = finetune(
            base,
            photos,
            out,
            recipe,
            patients=patients,
            encoder=encoder,
            stop=Interrupted(),
            progress=report if parallel.rank() == 0 else None,
            device=place,
        )
        first = parallel.rank() == 0
    if first:
        echo_run(run, as_json)
