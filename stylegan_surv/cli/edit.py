"""``stylegan-surv edit``: draw a photograph along the health attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.errors import InputError

PATH = click.Path(path_type=Path)


def _steps(_ctx: click.Context, _param: click.Parameter, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected numbers with commas between, such as -3,0,3") from None


@click.command()
@click.option(
    "--model", "model_dir", required=True, type=PATH, help="Take the model of this folder, STUDY/model."
)
@click.option("--photo", required=True, type=PATH, help="Draw this portrait photograph.")
@click.option("-o", "--out", required=True, type=PATH, help="Write the strip of pictures to this file.")
@click.option(
    "--steps",
    callback=_steps,
    default="-3,-1.5,0,1.5,3",
    show_default=True,
    help="Go so far, in SD of the cohort's risk.",
)
@click.option(
    "--kind",
    type=click.Choice(["pattern", "coefficient", "adjusted"]),
    default="pattern",
    show_default=True,
    help="Go along this direction; see the docs on the health attribute.",
)
@click.option(
    "--layers",
    type=click.Choice(["all", "coarse", "middle", "fine"]),
    default="all",
    show_default=True,
    help="Move these layers of the latent alone.",
)
@click.option(
    "--grid", "as_grid", is_flag=True, help="Draw a row for every kind of direction, not --kind alone."
)
@click.option(
    "--difference", "maps", is_flag=True, help="Draw what changes, twice as strong, below every row."
)
@click.option("--aligned", is_flag=True, help="Take the photograph as an FFHQ-aligned chip.")
@click.option(
    "--latents",
    type=PATH,
    help="Find the photograph in this dataset of the study; by default where the study's latents were.",
)
@click.option(
    "--faithful",
    is_flag=True,
    help="Tune a copy of the generator until it draws PHOTO exactly (minutes; for display, never a feature).",
)
@click.option("--delta", type=PATH, help="With --faithful: keep the tuning in this file, and use it again.")
@click.option("--generator", help="Take the generator of this file or name; by default the study's.")
@click.option("--encoder", help="Take the encoder of this file or name; by default the study's.")
def command(
    model_dir: Path,
    photo: Path,
    out: Path,
    steps: list[float],
    kind: Any,
    layers: str,
    as_grid: bool,
    maps: bool,
    aligned: bool,
    latents: Path | None,
    faithful: bool,
    delta: Path | None,
    generator: str | None,
    encoder: str | None,
) -> None:
    """Draw PHOTO healthier and more ill along the attribute of a fitted model.

    It begins where the study had it: at the stored latent if the photograph is among the study's, otherwise at the
    latent that the study's method, settings and networks give it.
    """
    from PIL import Image

    from stylegan_surv import attribute as stage
    from stylegan_surv._images import to_pixels
    from stylegan_surv.attribute.edit import SAME_PERSON
    from stylegan_surv.attribute.pattern import KINDS
    from stylegan_surv.inversion.again import generator_of
    from stylegan_surv.inversion.quality import check_picture

    if not photo.exists():
        raise InputError(f"there is no photograph {photo}; give the path of an existing file")
    if delta is not None and not faithful:
        raise InputError("--delta keeps what --faithful has tuned; give both or neither")
    attribute = stage.load_attribute(model_dir)
    if layers != "all":
        attribute = attribute.within(layers)
    net = generator_of(attribute.origin, generator)
    out.parent.mkdir(parents=True, exist_ok=True)
    check_picture(out)  # before minutes of tuning
    if delta is not None:
        delta.parent.mkdir(parents=True, exist_ok=True)
    beside = generator if encoder is None else encoder  # an encoder lies with its generator
    start = stage.begin(attribute, photo, aligned=aligned, latents=latents, generator=net, encoder=beside)
    if faithful:
        with progress_bar("Tuning") as report:
            net = stage.faithful(start, net, delta=delta, progress=report)
    kinds = [k for k in KINDS if getattr(attribute, k) is not None] if as_grid else [kind]
    rows = {}
    for name in kinds:
        rows[name] = stage.edit(attribute, start.w_plus, steps, kind=name, generator=net)
        if maps:
            (middle,) = stage.edit(attribute, start.w_plus, [0.0], kind=name, generator=net)
            rows[f"{name}, change"] = [stage.difference(picture, middle) for picture in rows[name]]
    alike = stage.likeness(start, net)
    said = f"{start.said} Likeness of the photograph and its drawing: {alike:.3f} (one person from {SAME_PERSON:g})."
    chip = Image.fromarray(to_pixels(start.chip))
    stage.grid(rows if len(rows) > 1 else {"": rows[kind]}, steps, said=said, photo=chip).save(out)
    click.echo(f"{out}: {len(steps) * len(rows)} pictures. {said} {attribute.note}")
    if alike < SAME_PERSON and not faithful:
        click.echo(
            "The drawing is not taken for the same person; --faithful tunes the generator until it is."
        )
