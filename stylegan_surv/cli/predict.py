"""``stylegan-surv predict``: risk scores of a fitted model for new latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from stylegan_surv.cli._common import (
    TableOptions,
    force_option,
    other_networks_option,
    table_options_beside_model,
)

PATH = click.Path(path_type=Path)


@click.command()
@click.option(
    "--model", "model_dir", required=True, type=PATH, help="Take the model from this folder, STUDY/model."
)
@click.option("--latents", required=True, type=PATH, help="Read the latents from this folder of `embed`.")
@click.option("-o", "--out", required=True, type=PATH, help="Write the risks to this CSV.")
@click.option(
    "--which",
    type=click.Choice(["photo", "clinical", "both"]),
    default="photo",
    show_default=True,
    help="Tell the model this of a patient; clinical and both need --cohort.",
)
@click.option(
    "--cohort", "table", type=PATH, help="Take the clinical columns from this table. [default: none]"
)
@table_options_beside_model
@other_networks_option
@force_option
def command(
    model_dir: Path,
    latents: Path,
    out: Path,
    which: str,
    table: Path | None,
    reading: TableOptions,
    other_networks: bool,
    force: bool,
) -> None:
    """Write patient_id, n_photos, risk and S(t) of every patient with an embedded photograph."""
    from stylegan_surv._files import check_new, write_csv
    from stylegan_surv.inversion import Latents
    from stylegan_surv.study import predict
    from stylegan_surv.survival.engines.persist import read_model_card

    out.parent.mkdir(parents=True, exist_ok=True)
    check_new(out, force)
    unit = read_model_card(model_dir).time_unit
    cohort = None
    if table is not None:
        cohort = replace(reading, time_unit=reading.time_unit or unit).read(
            table, followed=False, check_photos=False
        )
    risks = predict(model_dir, Latents.open(latents), which, cohort, other_networks=other_networks)
    write_csv(out, risks)
    click.echo(
        f"{out}: {len(risks)} patients. Risk scores of one cohort's model; high is worse. t in {unit}."
    )
