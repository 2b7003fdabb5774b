"""``stylegan-surv predict``: risk scores of a fitted model for new latents."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import force_option, other_networks_option

PATH = click.Path(path_type=Path)


@click.command()
@click.option(
    "--model", "model_dir", required=True, type=PATH, help="Take the model from this folder, STUDY/model."
)
@click.option("--latents", required=True, type=PATH, help="Read the latents from this folder of `embed`.")
@click.option("-o", "--out", required=True, type=PATH, help="Write the risks to this CSV.")
@other_networks_option
@force_option
def command(model_dir: Path, latents: Path, out: Path, other_networks: bool, force: bool) -> None:
    """Write patient_id, n_photos, risk and S(t) of every patient with an embedded photograph."""
    from stylegan_surv._files import check_new, write_csv
    from stylegan_surv.inversion import Latents
    from stylegan_surv.study import predict

    out.parent.mkdir(parents=True, exist_ok=True)
    check_new(out, force)
    table = predict(model_dir, Latents.open(latents), other_networks=other_networks)
    write_csv(out, table)
    click.echo(f"{out}: {len(table)} patients. Risk scores of one cohort's model; high is worse.")
