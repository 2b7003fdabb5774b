"""``stylegan-surv align``: photographs into a folder of aligned chips."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, progress_bar, table_options

SHOWN = 50  # failed photographs that are listed; the manifest holds them all


@click.command("align")
@click.argument("photos", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder of the chips.")
@click.option("--size", default=256, show_default=True, help="Side of the chips in pixels.")
@click.option("--workers", type=int, help="Processes. [default: one per core]")
@click.option(
    "--detector",
    type=click.Choice(["hog+cnn", "hog", "cnn"]),
    default="hog+cnn",
    show_default=True,
    help="hog+cnn asks the slow CNN only where HOG finds no face.",
)
@click.option("--cohort", type=click.Path(), help="Align only the photographs of this clinical table.")
@table_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    photos: str,
    out: str,
    size: int,
    workers: int | None,
    detector: Any,
    cohort: str | None,
    reading: TableOptions,
    as_json: bool,
) -> None:
    """Find the best-scored face in every photograph of the folder PHOTOS and cut the FFHQ crop.

    Photographs without a usable face are listed with the reason, and the exit code is 1. The same command goes
    on where an interrupted one stopped.
    """
    from stylegan_surv.faces import align

    source = reading.read(cohort, photos) if cohort else photos
    with progress_bar("Aligning") as progress:
        chips = align(source, out, size=size, workers=workers, detector=detector, progress=progress)
    failed = list(chips.failed[["photo_id", "error"]].itertuples(index=False, name=None))
    if as_json:
        listed = [{"photo_id": photo_id, "error": error} for photo_id, error in failed]
        echo_json(
            {"photos": len(chips), "aligned": len(chips.ok), "failed": listed, "chips": str(chips.folder)}
        )
    else:
        share = len(chips.ok) / len(chips)
        click.echo(f"{len(chips.ok)} of {len(chips)} photographs aligned ({share:.1%}) into {chips.folder}")
        _print_failed(failed)
    if failed:
        sys.exit(1)


def _print_failed(failed: list[tuple[str, str]]) -> None:
    if not failed:
        return
    width = max(len(photo_id) for photo_id, _ in failed[:SHOWN])
    for reason, count in Counter(_kind(error) for _, error in failed).most_common():
        click.echo(f"{count} failed: {reason}")
    for photo_id, error in failed[:SHOWN]:
        click.echo(f"  {photo_id:{width}}  {error}")
    if len(failed) > SHOWN:
        click.echo(f"  and {len(failed) - SHOWN} more: see the rows with status 'failed' in the manifest")


def _kind(error: str) -> str:
    """A reason without the name of its file."""
    return error.split(" is ", 1)[-1].split(":", 1)[0].rstrip(".")
