"""``stylegan-surv zoo``: the bundled networks and their cards."""

from __future__ import annotations

import json

import click

from stylegan_surv.cli._common import echo_json


@click.command("zoo")
@click.argument("name", required=False)
@click.option(
    "--kind",
    type=click.Choice(["generator", "encoder", "discriminator"]),
    default="generator",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="Print as one JSON line.")
def command(name: str | None, kind: str, as_json: bool) -> None:
    """List the bundled networks; with NAME, print its whole card."""
    from stylegan_surv.gan.formats import zoo

    if name is not None:
        one = zoo.entry(name, kind)
        if as_json:
            echo_json({"file": str(one.file), **one.card})
        else:
            click.echo(json.dumps({"file": one.file.name, **one.card}, indent=2, ensure_ascii=False))
        return
    found = list(zoo.entries())
    if as_json:
        columns = ("name", "kind", "resolution", "sha256", "megabytes", "licence", "data", "seen", "measures")
        echo_json({"networks": [{k: getattr(e, k) for k in columns} for e in found]})
        return
    for e in found:
        click.echo(f"{e.name} ({e.kind}, {e.resolution} px, {e.megabytes:.1f} MB, {e.licence})")
        click.echo(f"  trained on {e.data}; has seen {e.seen}")
        if e.measures:
            click.echo(
                "  " + ", ".join(f"{k} {v:.3g}" for k, v in e.measures.items() if isinstance(v, int | float))
            )
        click.echo(f"  SHA-256 {e.sha256}")
