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
    from stylegan_surv import attribute as stage
    from stylegan_surv.attribute import begin, edit, load_attribute, strip
    from stylegan_surv.inversion.again import generator_of
    from stylegan_surv.inversion.quality import check_picture

    if not photo.exists():
        raise InputError(f"there is no photograph {photo}; give the path of an existing file")
    if delta is not None and not faithful:
        raise InputError("--delta keeps what --faithful has tuned; give both or neither")
    attribute = load_attribute(model_dir)
    net = generator_of(attribute.origin, generator)
    out.parent.mkdir(parents=True, exist_ok=True)
    check_picture(out)  # before minutes of tuning
    if delta is not None:
        delta.parent.mkdir(parents=True, exist_ok=True)
    beside = generator if encoder is None else encoder  # an encoder lies with its generator
    start = begin(attribute, photo, aligned=aligned, latents=latents, generator=net, encoder=beside)
    if faithful:
        with progress_bar("Tuning") as report:
            net = stage.faithful(start, net, delta=delta, progress=report)
    pictures = edit(attribute, start.w_plus, steps, kind=kind, generator=net)
    strip(pictures, steps, said=start.said).save(out)
    click.echo(f"{out}: {len(steps)} pictures. {start.said} {attribute.note}")
