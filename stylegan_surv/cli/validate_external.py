"""``stylegan-surv validate-external``: a frozen model on a new cohort."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv._files import check_new, write_json
from stylegan_surv._records import to_json
from stylegan_surv.cli._common import (
    TableOptions,
    echo_json,
    force_option,
    other_networks_option,
    table_options,
)
from stylegan_surv.survival.metrics.interval import RESAMPLES

PATH = click.Path(path_type=Path)
FORMAT = 1  # of the file written


@click.command()
@click.option("--model", required=True, type=PATH, help="Take the model from this folder, STUDY/model.")
@click.option("--latents", required=True, type=PATH, help="Read the new cohort's latents from this folder.")
@click.option("--cohort", "table", required=True, type=PATH, help="Read this clinical table.")
@click.option("-o", "--out", required=True, type=PATH, help="Write the metrics to this JSON file.")
@click.option("--strata", default=None, help="Report C within strata as well: a column, or column:width.")
@click.option("--recalibrate", is_flag=True, help="Also fit slope and baseline on the new cohort.")
@table_options
@other_networks_option
@force_option
@click.option(
    "--boot",
    default=RESAMPLES,
    show_default=True,
    type=click.IntRange(0),
    help="Resample the patients so often for the intervals.",
)
@click.option("--seed", default=0, show_default=True, help="Resample by this seed.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON line.")
def command(
    model: Path,
    latents: Path,
    table: Path,
    out: Path,
    strata: str | None,
    recalibrate: bool,
    reading: TableOptions,
    other_networks: bool,
    force: bool,
    boot: int,
    seed: int,
    as_json: bool,
) -> None:
    """Evaluate a fitted model on patients whom it has never seen; write the metrics to OUT."""
    from stylegan_surv.inversion import Latents
    from stylegan_surv.study import predict
    from stylegan_surv.survival.metrics.external import validate_external
    from stylegan_surv.survival.outcome import Outcome

    out.parent.mkdir(parents=True, exist_ok=True)
    check_new(out, force)
    cohort = reading.read(table, check_photos=False)
    predictions = predict(model, Latents.open(latents), other_networks=other_networks)
    known = cohort.patients["patient_id"].isin(predictions["patient_id"])
    outcome = Outcome.from_frame(cohort.patients[known].reset_index(drop=True), strata=strata)
    found = validate_external(predictions, outcome, recalibrate=recalibrate, n_boot=boot, seed=seed)
    metrics = {
        "format": FORMAT,
        **to_json(found.metrics),
        "patients": len(outcome),
        "without_latents": int((~known).sum()),
    }
    write_json(out, metrics)
    if as_json:
        echo_json(metrics)
        return
    if metrics["without_latents"]:
        click.echo(f"left out: {metrics['without_latents']} patients without an embedded photograph")
    click.echo(f"{len(outcome)} patients, {int(outcome.event.sum())} events")
    for name, values in metrics["models"].items():
        for metric in ("harrell_c", "uno_c", "oe", "slope", "ici"):
            v = values.get(metric)
            if v is not None and v["estimate"] is not None:
                interval = "" if v["low"] is None else f" ({v['low']:.3f} to {v['high']:.3f})"
                click.echo(f"{name:<14}{metric:<12}{v['estimate']:.3f}{interval}")
    click.echo(str(out))
