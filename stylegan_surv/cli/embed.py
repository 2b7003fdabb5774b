"""``stylegan-surv embed``: a cohort's photographs into W+ latents."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import echo_json, progress_bar


@click.command("embed")
@click.option(
    "--cohort", "table", type=click.Path(path_type=Path), help="Clinical table with one row per photograph."
)
@click.option(
    "--photos", required=True, type=click.Path(path_type=Path), help="Photographs, or a folder of chips."
)
@click.option("--generator", default="synthetic-64", show_default=True, help="File or name of the generator.")
@click.option("--encoder", default=None, help="File or name of the encoder; by default the generator's own.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the latents.")
@click.option(
    "--method", type=click.Choice(["encoder", "hybrid", "projector"]), default="hybrid", show_default=True
)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Photographs at a time.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
@click.pass_context
def command(
    ctx: click.Context,
    table: Path | None,
    photos: Path,
    generator: str,
    encoder: str | None,
    out: Path,
    method: str,
    batch: int,
    seed: int,
    as_json: bool,
) -> None:
    """Invert photographs into the generator's W+ space.

    Interrupt it whenever you like: the same command goes on where it stopped. Exit code 1 says that some photographs
    have no latent; they are listed.
    """
    from stylegan_surv.cohort import read_cohort
    from stylegan_surv.inversion import embed

    cohort = None if table is None else read_cohort(table, photos, check_photos=False)
    with progress_bar("Embedding") as report:
        latents = embed(
            photos,
            cohort=cohort,
            generator=generator,
            encoder=encoder,
            out=out,
            method=method,  # type: ignore[arg-type]
            batch=batch,
            seed=seed,
            progress=report,
        )
    failed = latents.failed
    if as_json:
        quality = (
            {name: float(latents.rows[name].median()) for name in ("lpips", "mse")} if len(latents) else {}
        )
        reasons = dict(zip(failed["photo_id"], failed["error"]))
        echo_json({"latents": str(out), "photos": len(latents), "failed": reasons, **quality})
    else:
        click.echo(f"{len(latents)} photographs embedded, {len(failed)} failed; latents in {out}")
        for row in failed.itertuples():
            click.echo(f"  {row.photo_id}: {row.error}")
    ctx.exit(1 if len(failed) else 0)
