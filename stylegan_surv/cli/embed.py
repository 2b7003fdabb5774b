"""``stylegan-surv embed``: a cohort's photographs into W+ latents."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, table_options
from stylegan_surv.cli._progress import progress_bar

PATH = click.Path(path_type=Path)


@click.command("embed")
@click.option("--cohort", "table", type=PATH, help="Clinical table, one row per photograph.")
@table_options
@click.option("--photos", required=True, type=PATH, help="Photographs, or a folder of aligned chips.")
@click.option("--generator", default="synthetic-64", show_default=True, help="File or name of the generator.")
@click.option("--encoder", help="File or name of the encoder; by default the generator's own.")
@click.option("-o", "--out", required=True, type=PATH, help="Folder for the latents.")
@click.option("--method", type=click.Choice(["encoder", "hybrid", "projector"]), help="Default: hybrid.")
@click.option("--preset", help="The published protocol for comparison: reference or reference-w+.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Photographs at a time.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--perceptual", type=click.Choice(["alex", "vgg"]), help="Default: alex; vgg with a preset.")
@click.option("--passes", type=click.IntRange(0), default=0, show_default=True, help="Encoder refinements.")
@click.option("--steps", type=click.IntRange(1), help="At most so many projector steps.")
@click.option("--target", type=float, help="LPIPS at which a photograph is finished.")
@click.option(
    "--penalty", type=click.FloatRange(0), help="The dial: 0 copies, large values stay at the start."
)
@click.option("--space", type=click.Choice(["w", "w+"]), help="One vector for all layers, or one per layer.")
@click.option("--start", help="encoder, mean, or a folder of earlier latents to go on from.")
@click.option("--identity", is_flag=True, help="Grade the identity similarity as well (slower).")
@click.option("--cluster", help="local, local:N, slurm:N or the address of a Dask scheduler.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--sheet", type=PATH, help="Write a contact sheet of the worst photographs (shows faces).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(
    table: Path | None,
    reading: TableOptions,
    photos: Path,
    generator: str,
    out: Path,
    sheet: Path | None,
    start: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Invert photographs into the generator's W+ space.

    Interrupt it whenever you like: the same command goes on where it stopped. Exit code 1 says that some photographs
    have no latent; they are listed.
    """
    from stylegan_surv.inversion.embed import CHIPS, embed_to
    from stylegan_surv.inversion.latents import Latents
    from stylegan_surv.inversion.quality import check_picture, contact_sheet, summarise

    if sheet is not None:
        check_picture(sheet)
    previous = Latents.open(start) if start not in (None, "encoder", "mean") else None
    given = {name: options.pop(name) for name in ("steps", "target", "penalty", "space")}
    given["start"] = start if previous is None else "previous"
    schedule = {name: value for name, value in given.items() if value is not None}
    if options["cluster"]:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("stylegan_surv").setLevel(logging.INFO)
    cohort = None if table is None else reading.read(table, photos, check_photos=False)
    with progress_bar("Embedding") as report:
        options |= {"cohort": cohort, "generator": generator, "schedule": schedule or None, "start": previous}
        embed_to(out, photos, progress=report, **options)
    summary = summarise(out)
    if sheet is not None and summary.photos:
        contact_sheet(Latents.open(out), out / CHIPS if (out / CHIPS).exists() else photos, sheet, generator)
    if as_json:
        echo_json({"latents": str(out), **summary.as_dict()})
    else:
        click.echo(f"Latents in {out}: {summary}")
    if summary.failed:
        sys.exit(1)
