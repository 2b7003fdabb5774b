"""``stylegan-surv latents``: look at, check, compact and export a latents dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, force_option, table_options

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")


@click.group("latents")
def command() -> None:
    """Look at, check, compact and export a latents dataset."""


@command.command("info")
@FOLDER
@click.option("--cohort", type=click.Path(path_type=Path), help="Clinical table, for the table by subgroup.")
@table_options
@click.option("--by", help="Column of the clinical table.")
@click.option(
    "--review",
    multiple=True,
    type=(click.Choice(["lpips", "distance", "identity"]), float),
    help="Another threshold for what needs a look, such as lpips 0.2.",
)
@AS_JSON
def info(
    folder: Path,
    cohort: Path | None,
    reading: TableOptions,
    by: str | None,
    review: tuple[tuple[str, float], ...],
    as_json: bool,
) -> None:
    """What a dataset holds, where it came from, and how good it is."""
    from stylegan_surv.inversion.dataset import read_metadata
    from stylegan_surv.inversion.quality import REVIEW, by_subgroup, summarise

    if (cohort is None) != (by is None):
        raise click.UsageError("--cohort and --by belong together")
    metadata, summary = read_metadata(folder), summarise(folder, {**REVIEW, **dict(review)})
    known = {name: metadata.get(name) for name in ("generator", "method", "num_ws", "w_dim", "version")}
    groups = None
    if cohort is not None and by is not None:
        groups = by_subgroup(folder, reading.read(cohort, check_photos=False).patients, by)
    if as_json:
        table = (
            {}
            if groups is None
            else {"groups": groups.astype(object).where(groups.notna(), None).to_dict("records")}
        )
        echo_json({**known, **summary.as_dict(), **table})
        return
    click.echo(", ".join(f"{name} {value}" for name, value in known.items()))
    click.echo(str(summary))
    if groups is not None:
        click.echo(groups.to_string(index=False, float_format=lambda x: f"{x:.3f}"))


@command.command("verify")
@FOLDER
@click.option("--photos", type=click.Path(path_type=Path), help="Chips, to compare with what was embedded.")
@click.option("--cohort", "table", type=click.Path(path_type=Path), help="The table that `embed` was given.")
@table_options
@AS_JSON
def verify_command(
    folder: Path, photos: Path | None, table: Path | None, reading: TableOptions, as_json: bool
) -> None:
    """Check every shard and row. Exit code 1 if something is wrong."""
    from stylegan_surv.inversion.verify import verify

    if table is not None and photos is None:
        raise click.UsageError("--cohort says which of --photos belong to the run: give both")
    faults = verify(
        folder, photos, None if table is None else reading.read(table, photos, check_photos=False)
    )
    if as_json:
        echo_json({"faults": faults})
    else:
        click.echo("\n".join(faults) if faults else "All shards and rows are sound.")
    if faults:
        sys.exit(1)


@command.command("seeds")
@FOLDER
@click.option(
    "--photos", required=True, type=click.Path(path_type=Path), help="The chips that were embedded."
)
@click.option("--generator", default="synthetic-64", show_default=True, help="The dataset's own.")
@click.option("--encoder", help="The dataset's own; by default the generator's.")
@click.option("--sample", default=16, show_default=True, help="Photographs.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@AS_JSON
def seeds_command(folder: Path, photos: Path, as_json: bool, **options: Any) -> None:
    """Invert a sample again with other seeds: how much of a latent is chance?"""
    from stylegan_surv.inversion.seeds import seed_variance

    found = seed_variance(folder, photos, **options)
    if as_json:
        echo_json(found.as_dict())
    else:
        click.echo(str(found))


@command.command("compact")
@FOLDER
@click.option("--rows", type=click.IntRange(1), default=8192, show_default=True, help="Rows of a file.")
def compact_command(folder: Path, rows: int) -> None:
    """Merge shards into few files."""
    from stylegan_surv.inversion.dataset import read_metadata
    from stylegan_surv.inversion.writer import LatentsWriter

    with LatentsWriter(folder, read_metadata(folder)) as writer:
        count = writer.compact(rows)
    click.echo(f"{folder} now has {count} file{'s' if count != 1 else ''}")


@command.command("prune")
@FOLDER
@click.option("--photos", required=True, type=click.Path(path_type=Path), help="Chips that are to stay.")
@click.option(
    "--cohort", "table", type=click.Path(path_type=Path), help="Table of the photographs that stay."
)
@table_options
def prune_command(folder: Path, photos: Path, table: Path | None, reading: TableOptions) -> None:
    """Remove latents of photographs that are no longer of the study, such as withdrawn ones."""
    from stylegan_surv.inversion.verify import prune

    gone = prune(folder, photos, None if table is None else reading.read(table, photos, check_photos=False))
    click.echo(f"{len(gone)} removed{': ' if gone else ''}{', '.join(gone)}")


@command.command("export")
@FOLDER
@click.argument("out", type=click.Path(path_type=Path))
@force_option
def export_command(folder: Path, out: Path, force: bool) -> None:
    """Write .npz, .csv or one .parquet file (for R: arrow::read_parquet), by the name of OUT.

    In CSV, text that a spreadsheet would take for a formula (it begins with = + - @) gets an apostrophe before it;
    numbers stay numbers.
    """
    from stylegan_surv.inversion.export import export

    rows = export(folder, out, force=force)
    click.echo(f"{rows} photographs in {out}")
