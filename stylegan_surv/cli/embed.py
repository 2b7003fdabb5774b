"""``stylegan-surv embed``: a cohort's photographs into W+ latents."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, setting, table_options
from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.inversion.settings import GENERATOR, METHODS, PRESETS, EmbedSettings

PATH = click.Path(path_type=Path)
DEFAULT = EmbedSettings()


@click.command("embed")
@click.option(
    "--cohort", "table", type=PATH, help="Read patients from a clinical table, one row per photograph."
)
@table_options
@click.option(
    "--photos", required=True, type=PATH, help="Invert these photographs, or a folder of aligned chips."
)
@click.option(
    "--generator", default=GENERATOR, show_default=True, help="Take the generator of this file or name."
)
@click.option("--encoder", help="Take the encoder of this file or name; by default the generator's own.")
@click.option("-o", "--out", required=True, type=PATH, help="Write the latents to this folder.")
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    help=f"Choose how photographs are inverted (default: {DEFAULT.method}).",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Follow the published protocol, for comparison, in place of a method.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Compute so many photographs at a time (default: what suits resolution, number and memory; it is said).",
)
@setting(EmbedSettings, "seed", type=int, help="Draw all random numbers from this seed.")
@click.option(
    "--perceptual",
    type=click.Choice(["alex", "vgg"]),
    help="Compare pictures by this LPIPS network (default: alex; vgg with a preset).",
)
@setting(EmbedSettings, "passes", type=click.IntRange(0), help="Refine the encoder's latent so many times.")
@click.option(
    "--steps", type=click.IntRange(1), help="Take at most so many projector steps (default: the method's)."
)
@click.option("--target", type=float, help="Finish a photograph at this LPIPS (default: the method's).")
@click.option(
    "--penalty",
    type=click.FloatRange(0),
    help="Turn the dial: 0 copies the photograph, large values stay at the start (default: the method's).",
)
@click.option(
    "--space",
    type=click.Choice(["w", "w+"]),
    help="Fit one vector for all layers (w), or one per layer (w+).",
)
@click.option("--start", help="Begin at the encoder, the mean, or a folder of earlier latents.")
@click.option(
    "--label",
    type=click.IntRange(0),
    help="Draw this label of a conditional generator; by default its card's, else none, which is said.",
)
@click.option(
    "--identity", is_flag=True, help="Grade the identity similarity as well (about 0.2 s a photograph)."
)
@click.option("--cluster", help="Compute on local, local:N, slurm:N or the address of a Dask scheduler.")
@click.option("--device", default="cpu", show_default=True, help="Compute on cpu or cuda.")
@click.option("--sheet", type=PATH, help="Write a contact sheet of the worst photographs (shows faces).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(
    table: Path | None,
    reading: TableOptions,
    photos: Path,
    generator: str,
    encoder: str | None,
    out: Path,
    method: Any,
    cluster: str | None,
    device: str,
    sheet: Path | None,
    start: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Invert photographs into the generator's W+ space.

    Interrupt it whenever you like: the same command goes on where it stopped. Exit code 1 says that some photographs
    have no latent; they are listed.
    """
    from stylegan_surv.inversion.embedding import CHIPS, Request, prepare
    from stylegan_surv.inversion.latents import Latents
    from stylegan_surv.inversion.quality import check_picture, contact_sheet, summarise

    if sheet is not None:
        check_picture(sheet)
    previous = Latents.open(start) if start not in (None, "encoder", "mean") else None
    given = {name: options.pop(name) for name in ("steps", "target", "penalty", "space")}
    given["start"] = start if previous is None else "previous"
    schedule = {name: value for name, value in given.items() if value is not None}
    if cluster:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("stylegan_surv").setLevel(logging.INFO)
    cohort = None if table is None else reading.read(table, photos, check_photos=False)
    settings = EmbedSettings(
        method=method or DEFAULT.method, schedule=schedule or None, start=previous, **options
    )
    run = prepare(Request(photos, cohort, generator, encoder, out, settings, cluster, device))
    for note in run.notes:
        click.echo(f"note: {note}", err=True)
    if run.few:
        with progress_bar("Embedding (steps)") as report:
            run.to_disk(steps=report)
    else:
        with progress_bar("Embedding") as report:
            run.to_disk(report)
    summary = summarise(out)
    if sheet is not None and summary.photos:
        contact_sheet(Latents.open(out), out / CHIPS if (out / CHIPS).exists() else photos, sheet, generator)
    if as_json:
        echo_json({"latents": str(out), **summary.as_dict()})
    else:
        click.echo(f"Latents in {out}: {summary}")
    if summary.failed:
        sys.exit(1)
