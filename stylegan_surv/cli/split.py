"""``stylegan-surv split``: patient-level sets, so that no patient both tunes a network and tests it."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import columns_option, echo_json


@click.command("split")
@click.argument("table", metavar="CSV", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="CSV to write: patient_id,set.")
@click.option(
    "--sets",
    default="finetune=0.5,evaluate=0.5",
    show_default=True,
    help="Names and shares of the sets; the shares sum to 1.",
)
@click.option("--stratify", default="event", show_default=True, help="Columns to balance, by comma.")
@columns_option
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    table: str, out: str, sets: str, stratify: str, columns: dict[str, str], seed: int, as_json: bool
) -> None:
    """Divide the patients of the clinical table CSV into sets; all photographs of a patient stay together."""
    from stylegan_surv.cohort import read_cohort, split_cohort
    from stylegan_surv.errors import InputError

    if Path(out).exists():
        raise InputError(
            f"{out} exists already; a split that is in use must not change. Choose another name."
        )
    if not Path(out).parent.is_dir():
        raise InputError(f"There is no folder {Path(out).parent}.")
    cohort = read_cohort(table, columns=columns)
    balanced = [name for name in stratify.split(",") if name]
    split = split_cohort(cohort, _shares(sets), seed, balanced)
    split.to_csv(out, index=False)
    events = cohort.patients["event"].groupby(split["set"])
    counts = {str(name): {"patients": len(group), "events": int(group.sum())} for name, group in events}
    if as_json:
        echo_json({"split": out, "seed": seed, "sets": counts})
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
