"""``stylegan-surv split``: patient-level sets, so that no patient both tunes a network and tests it."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import TableOptions, echo_json, table_options

PATH = click.Path(path_type=Path)


@click.command("split")
@click.argument("table", metavar="CSV", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Write patient_id,set to this CSV.")
@click.option(
    "--sets",
    default="finetune=0.5,evaluate=0.5",
    show_default=True,
    help="Name the sets and their shares, which sum to 1.",
)
@click.option(
    "--stratify", default="event", show_default=True, help="Balance these columns, with commas between."
)
@table_options
@click.option("--seed", default=0, show_default=True, help="Divide by this seed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    table: Path, out: Path, sets: str, stratify: str, reading: TableOptions, seed: int, as_json: bool
) -> None:
    """Divide the patients of the clinical table CSV into sets; all photographs of a patient stay together."""
    from stylegan_surv._files import check_file, write_csv
    from stylegan_surv.cohort import split_cohort
    from stylegan_surv.errors import InputError

    if out.exists():
        raise InputError(
            f"{out} exists already; a split that is in use must not change. Choose another name."
        )
    if not out.parent.is_dir():
        raise InputError(f"There is no folder {out.parent}.")
    check_file(out)
    cohort = reading.read(table)
    balanced = [name for name in stratify.split(",") if name]
    split = split_cohort(cohort, _shares(sets), seed, balanced)
    write_csv(out, split)
    events = cohort.patients["event"].groupby(split["set"])
    counts = {str(name): {"patients": len(group), "events": int(group.sum())} for name, group in events}
    if as_json:
        echo_json({"split": str(out), "seed": seed, "sets": counts})
        return
    for name, count in counts.items():
        click.echo(f"{name}: {count['patients']} patients, {count['events']} events")
    click.echo(f"Written to {out}")


def _shares(text: str) -> dict[str, float]:
    try:
        pairs = [item.split("=") for item in text.split(",")]
        return {name.strip(): float(share) for name, share in pairs}
    except ValueError as error:
        raise click.BadParameter(f"'{text}'; expected NAME=SHARE,NAME=SHARE", param_hint="--sets") from error
