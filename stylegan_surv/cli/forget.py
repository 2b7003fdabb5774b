"""``stylegan-surv forget``: remove what is kept of a patient who withdraws."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from stylegan_surv.cli._common import TableOptions, echo_json, table_options

PATH = click.Path(path_type=Path)


@click.command("forget")
@click.argument("patient", metavar="PATIENT")
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=PATH)
@click.option(
    "--cohort", "table", type=PATH, help="Read from this clinical table which photographs are the patient's."
)
@table_options
@click.option("--dry-run", is_flag=True, help="Name what would be removed, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    patient: str,
    folders: tuple[Path, ...],
    table: Path | None,
    reading: TableOptions,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove the chips, latents and tuned weights of PATIENT from every FOLDER and the folders in it.

    Studies and networks that rest on the patient are named: fit and train them again without. Photographs, clinical
    tables, reports, contact sheets and copies elsewhere stay: remove those yourself. Exit code 1 says that nothing
    of the patient was found, or that a file could not be looked into.
    """
    from stylegan_surv.withdrawal import forget

    cohort = None if table is None else reading.read(table, check_photos=False)
    result = forget(patient, folders, cohort, dry_run=dry_run)
    if as_json:
        echo_json({"patient": patient, "dry_run": dry_run, **asdict(result)})
    else:
        verb = "Would remove" if dry_run else "Removed"
        for what, held in (("chips", result.chips), ("latents", result.latents)):
            for folder, names in held.items():
                click.echo(f"{verb} {len(names)} {what} from {folder}: {', '.join(names)}")
        for path in result.tuned:
            click.echo(f"{verb} weights tuned to one of the photographs: {path}")
        for path in result.studies:
            click.echo(f"This study rests on the patient; fit it again without, and delete it: {path}")
        for path in result.networks:
            click.echo(
                f"This network was trained on the patient; train it again without, and delete it: {path}"
            )
        for path, reason in result.unread.items():
            click.echo(f"Not looked into: {path} ({reason})", err=True)
        if not result.found:
            click.echo(f"Nothing of {patient!r} was found.", err=True)
    ctx.exit(0 if result.found and not result.unread else 1)
