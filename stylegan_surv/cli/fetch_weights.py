"""``stylegan-surv fetch-weights``: auxiliary networks that are too large to bundle."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import echo_json


@click.command("fetch-weights")
@click.argument("name", required=False)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Take it from this file: machines without a network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(name: str | None, source: Path | None, as_json: bool) -> None:
    """Fetch an auxiliary network once; without NAME, list them.

    Whatever its way here, it is compared with a pinned SHA-256 and stored as safetensors.
    """
    from stylegan_surv.gan.networks.auxiliary import AUXILIARY, cache_folder, fetch

    if name is None:
        for key, entry in AUXILIARY.items():
            there = (cache_folder() / f"{key}.safetensors").exists()
            click.echo(f"{key}: {entry.about}; {entry.licence}; {'fetched' if there else 'not fetched'}")
        return
    path = fetch(name, source)
    if as_json:
        echo_json({"name": name, "file": str(path)})
    else:
        click.echo(f"{name}: {path}")
