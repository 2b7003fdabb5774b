"""``stylegan-surv align``: photographs into a folder of aligned chips."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, table_options
from stylegan_surv.cli._progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd

    from stylegan_surv.faces import Chips

SHOWN = 50  # failed photographs that are listed; the manifest holds them all
NAMED = 10  # photographs of one reason that the review list names
PATH = click.Path(path_type=Path)


@click.command("align")
@click.argument("photos", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Write the chips to this folder.")
@click.option(
    "--size", default=256, show_default=True, help="Cut chips of so many pixels each way, 32 to 2048."
)
@click.option("--workers", type=int, help="Use so many processes. [default: one per core]")
@click.option(
    "--landmarks",
    type=click.Choice(["mesh", "dlib68"]),
    default="mesh",
    show_default=True,
    help="Find faces by these landmarks; dlib68 needs the extra dlib68, which is for non-commercial use.",
)
@click.option(
    "--skin-tone/--no-skin-tone",
    default=True,
    show_default=True,
    help="Measure the typology angle of the skin (sensitive), to see whether the model serves everybody alike.",
)
@click.option("--cohort", type=PATH, help="Align only the photographs of this clinical table.")
@table_options
@click.option("--prune", is_flag=True, help="Remove chips of photographs that are not given this time.")
@click.option("--strict", is_flag=True, help="Fail the photographs on the review list.")
@click.option("--sheet", type=PATH, help="Draw the chips on the review list into this .png or .jpg file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    photos: Path,
    out: Path,
    size: int,
    workers: int | None,
    landmarks: Any,
    skin_tone: bool,
    cohort: Path | None,
    reading: TableOptions,
    prune: bool,
    strict: bool,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Find the best-scored face in every photograph of the folder PHOTOS and cut the FFHQ crop.

    Photographs without a usable face are listed with the reason, and the exit code is 1. Those that someone should
    look at are listed at the end (docs/faces.md has the limits). The same command goes on where an interrupted one
    stopped.
    """
    from stylegan_surv.faces import align
    from stylegan_surv.faces.review import review

    source = reading.read(cohort, photos) if cohort else photos
    with progress_bar("Aligning") as progress:
        chips = align(
            source, out, size=size, workers=workers, landmarks=landmarks, skin_tone=skin_tone, prune=prune,
            strict=strict, sheet=sheet, progress=progress,
        )  # fmt: skip
    found = review(chips)
    if as_json:
        echo_json(_record(chips, found, sheet))
    else:
        _print(chips, found, sheet)
    if len(chips.failed):
        sys.exit(1)


def _record(chips: Chips, found: pd.DataFrame, sheet: Path | None) -> dict[str, Any]:
    failed = chips.failed[["photo_id", "error"]].to_dict("records")
    return {
        "photos": len(chips),
        "aligned": len(chips.ok),
        "failed": failed,
        "review": found.to_dict("records"),
        "ignored": chips.ignored,
        "kept": chips.kept,
        "chips": str(chips.folder),
        "sheet": None if sheet is None else str(sheet),
    }


def _print(chips: Chips, found: pd.DataFrame, sheet: Path | None) -> None:
    from stylegan_surv.faces.folder import ignored_in_words

    share = len(chips.ok) / len(chips)
    click.echo(f"{len(chips.ok)} of {len(chips)} photographs aligned ({share:.1%}) into {chips.folder}")
    if chips.ignored:
        click.echo(ignored_in_words(chips.ignored))
    if chips.kept:
        click.echo(f"{chips.kept} photographs of earlier runs stay as they are; --prune removes them")
    _print_failed(list(chips.failed[["photo_id", "error"]].itertuples(index=False, name=None)))
    _print_review(found)
    if sheet is not None:
        click.echo(f"Contact sheet: {sheet} (it shows faces)")


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


def _print_review(found: pd.DataFrame) -> None:
    from stylegan_surv.faces.review import kind

    if found.empty:
        return
    click.echo(f"{found['photo_id'].nunique()} to be looked at (--strict fails them, --sheet draws them):")
    for reason, rows in found.groupby(found["reason"].map(kind), sort=False):
        named = ", ".join(rows["photo_id"].iloc[:NAMED])
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        click.echo(f"  {len(rows)} {reason}: {named}{more}")
