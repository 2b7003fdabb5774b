"""``stylegan-surv edit``: draw a photograph along the health attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.errors import InputError


def _steps(_ctx: click.Context, _param: click.Parameter, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected numbers with commas between, such as -3,0,3") from None


@click.command()
@click.option("--model", "model_dir", required=True, type=click.Path(path_type=Path), help="STUDY/model.")
@click.option("--photo", required=True, type=click.Path(path_type=Path), help="A portrait photograph.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Picture to write.")
@click.option("--steps", callback=_steps, default="-3,-1.5,0,1.5,3", show_default=True, help="In SD of risk.")
@click.option(
    "--kind",
    type=click.Choice(["pattern", "coefficient", "adjusted"]),
    default="pattern",
    show_default=True,
    help="Which direction; see the docs on the health attribute.",
)
@click.option("--aligned", is_flag=True, help="The photograph is an FFHQ-aligned chip already.")
@click.option(
    "--faithful",
    is_flag=True,
    help="Tune a copy of the generator until it draws PHOTO exactly (minutes; for display, never a feature).",
)
@click.option(
    "--delta", type=click.Path(path_type=Path), help="With --faithful: keep the tuning, and use it again."
)
@click.option("--generator", default=None, help="Generator of the study; by default the one its card names.")
def command(
    model_dir: Path,
    photo: Path,
    out: Path,
    steps: list[float],
    kind: str,
    aligned: bool,
    faithful: bool,
    delta: Path | None,
    generator: str | None,
) -> None:
    """Draw PHOTO healthier and more ill along the attribute of a fitted model."""
    from stylegan_surv import attribute as stage
    from stylegan_surv.attribute import edit, load_attribute, strip
    from stylegan_surv.gan import load_encoder, load_generator
    from stylegan_surv.inversion.quality import check_picture

    if not photo.exists():
        raise InputError(f"there is no photograph {photo}; give the path of an existing file")
    attribute, names = load_attribute(model_dir)
    name = generator or names.get("generator", "synthetic-64")
    networks: dict[str, Any] = {
        "generator": load_generator(name),
        "encoder": load_encoder(names.get("encoder", name) if generator is None else generator),
    }
    for role, network in networks.items():
        wanted = names.get(f"{role}_sha256")
        if wanted and network.card.get("sha256") != wanted:
            raise InputError(
                f"the model was fitted with a {role} of SHA-256 {wanted[:12]}…, and {name} is another one; "
                "give the right file with --generator, or embed and fit again"
            )
    if delta is not None and not faithful:
        raise InputError("--delta keeps what --faithful has tuned; give both or neither")
    out.parent.mkdir(parents=True, exist_ok=True)
    check_picture(out)  # before minutes of tuning
    if delta is not None:
        delta.parent.mkdir(parents=True, exist_ok=True)
    if faithful:
        with progress_bar("Tuning") as report:
            networks["generator"] = stage.faithful(
                photo, **networks, aligned=aligned, delta=delta, progress=report
            )
    pictures = edit(
        attribute,
        photo,
        steps,
        **networks,
        kind=kind,  # type: ignore[arg-type]
        aligned=aligned,
    )
    strip(pictures, steps).save(out)
    click.echo(f"{out}: {len(steps)} pictures. {attribute.note}")
