"""``stylegan-surv validate-external``: frozen models on a new cohort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stylegan_surv._files import check_new, write_json
from stylegan_surv._records import to_json
from stylegan_surv.cli._common import (
    TableOptions,
    echo_json,
    force_option,
    other_networks_option,
    table_options_beside_model,
)
from stylegan_surv.survival.metrics.interval import RESAMPLES

PATH = click.Path(path_type=Path)
FORMAT = 2  # of the file written
SHOWN = ("harrell_c", "stratified_c", "uno_c", "oe", "slope", "ici")


@click.command()
@click.option("--model", required=True, type=PATH, help="Take the models from this folder, STUDY/model.")
@click.option("--latents", required=True, type=PATH, help="Read the new cohort's latents from this folder.")
@click.option("--cohort", "table", required=True, type=PATH, help="Read this clinical table.")
@click.option("-o", "--out", required=True, type=PATH, help="Write the metrics to this JSON file.")
@click.option("--strata", default=None, help="Report C within strata as well: a column, or column:width.")
@click.option("--recalibrate", is_flag=True, help="Also fit slope and baseline on the new cohort.")
@table_options_beside_model
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
    """Evaluate a study's models (clinical, photo, both) on patients whom they have never seen.

    Times are converted into the models' unit; patients whom they were fitted on are left out. The metrics go to OUT.
    """
    from stylegan_surv.inversion import Latents
    from stylegan_surv.study import validate
    from stylegan_surv.survival.engines.persist import read_model_card

    out.parent.mkdir(parents=True, exist_ok=True)
    check_new(out, force)
    if not reading.time_unit:
        reading = replace(reading, time_unit=read_model_card(model).time_unit)
    result = validate(
        model, Latents.open(latents), reading.read(table, check_photos=False), strata=strata,
        recalibrate=recalibrate, other_networks=other_networks, n_boot=boot, seed=seed,
    )  # fmt: skip
    metrics = {
        "format": FORMAT,
        **to_json(result.found.metrics),
        "recalibrations": to_json(result.found.recalibrations),
        "time_unit": result.time_unit,
        "patients": len(result.outcome),
        "events": int(result.outcome.event.sum()),
        "without_latents": result.without_latents,
        "trained_on": len(result.trained_on),
    }
    write_json(out, metrics)
    if as_json:
        echo_json(metrics)
    else:
        _echo(metrics)
        click.echo(str(out))


def _echo(metrics: dict[str, Any]) -> None:
    if metrics["trained_on"]:
        click.echo(f"left out: {metrics['trained_on']} patients whom the models were fitted on")
    if metrics["without_latents"]:
        click.echo(f"left out: {metrics['without_latents']} patients without an embedded photograph")
    click.echo(f"{metrics['patients']} patients, {metrics['events']} events; times in {metrics['time_unit']}")
    rows = {**metrics["models"], **metrics["comparisons"]}
    width = max(map(len, rows)) + 2
    for name, values in rows.items():
        for metric in SHOWN:
            v = values.get(metric)
            if v is not None and v["estimate"] is not None:
                interval = "" if v["low"] is None else f" ({v['low']:.3f} to {v['high']:.3f})"
                click.echo(f"{name:<{width}}{metric:<14}{v['estimate']:.3f}{interval}")
