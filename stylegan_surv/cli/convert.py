"""``stylegan-surv convert``: a checkpoint of any known layout into ours, or into rosinality's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from stylegan_surv.cli._common import echo_json


@click.command("convert")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--what",
    type=click.Choice(["G_ema", "G", "D"]),
    default="G_ema",
    show_default=True,
    help="Which network of the file: the averaged generator, the generator as trained, the discriminator.",
)
@click.option("--to", "layout", type=click.Choice(["ours", "rosinality"]), default="ours", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the card as one JSON line.")
def command(source: Path, target: Path, what: str, layout: str, as_json: bool) -> None:
    """Convert IN (NVlabs .pkl, rosinality, e4e or pSp .pt, safetensors) to OUT and print its card.

    The format is told by content. No code of a file is ever run.
    """
    from stylegan_surv.gan.formats.checkpoint import convert

    made = convert(source, target, network=what, layout=layout)  # type: ignore[arg-type]
    if as_json:
        echo_json({"out": str(target), "config": asdict(made.config), "card": made.card, "notes": made.notes})
        return
    config = {k: v for k, v in asdict(made.config).items() if v is not None}
    lines = {
        "network": f"{what}, {config.pop('resolution')} px, {config.pop('architecture')}",
        "shape": ", ".join(f"{k} {v}" for k, v in config.items()),
        "trained on": f"{made.card['kimg']} thousand images"
        if "kimg" in made.card
        else "not stated how long",
        "data": made.card.get("data", "not stated"),
        "licence": made.card.get("licence", "not stated"),
        "has seen": (made.card.get("provenance") or {}).get("kind", "unknown"),
        "SHA-256 of IN": made.card["sha256"],
    }
    for label, text in lines.items():
        click.echo(f"{label + ':':15}{text}")
    for note in made.notes:
        click.echo(f"note: {note}")
    click.echo(f"wrote {target}")
