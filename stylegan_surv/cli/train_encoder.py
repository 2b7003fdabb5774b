"""``stylegan-surv train-encoder``: an encoder to W+ for any generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._common import TableOptions, echo_json, progress_bar, table_options

PATH = click.Path(path_type=Path)


@click.command("train-encoder")
@click.option("--generator", default="synthetic-64", show_default=True, help="File or name of the generator.")
@click.option(
    "--photos", type=PATH, help="Real aligned chips to learn from too; named in the encoder's card."
)
@click.option("--cohort", "table", type=PATH, help="Clinical table: says whose each photograph is.")
@table_options
@click.option(
    "--split", type=PATH, help="What `stylegan-surv split` wrote: only one set's patients are used."
)
@click.option("--set", "chosen", default="finetune", show_default=True, help="The set of the split.")
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the patients of real chips that is never learnt from.",
)
@click.option(
    "--hold-out-seed",
    default=0,
    show_default=True,
    help="The seed of the fine-tuning run that held them out.",
)
@click.option("--drop-captions", is_flag=True, help="Leave out real chips with a caption at an edge.")
@click.option("--start", help="File or name of an encoder to start from.")
@click.option("-o", "--out", required=True, type=PATH, help="The encoder's file (NAME.encoder.safetensors).")
@click.option("--images", type=click.IntRange(1), default=200_000, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True)
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Adam's learning rate.")
@click.option(
    "--real",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.25,
    show_default=True,
    help="Share of real chips in a step.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(
    generator: str,
    photos: Path | None,
    table: Path | None,
    reading: TableOptions,
    split: Path | None,
    chosen: str,
    start: str | None,
    out: Path,
    device: str,
    as_json: bool,
    **settings: float,
) -> None:
    """Train an encoder: samples of the generator with known latents, and real chips if there are any.

    Interrupt it whenever you like: the same command goes on where it stopped.
    """
    from stylegan_surv.gan import load_encoder, load_generator
    from stylegan_surv.gan.training.data import of_cohort, read_chips
    from stylegan_surv.inversion.train_encoder import EncoderRecipe, recovery, train_encoder

    net = load_generator(generator, device)
    recipe = EncoderRecipe(**settings)  # type: ignore[arg-type]
    chips: Any = photos
    if table is not None and photos is not None:
        chips = read_chips(photos, net.config.resolution, drop_captions=recipe.drop_captions)
        chips = of_cohort(chips, reading.read(table, photos, check_photos=False), split, chosen)
    elif table is not None or split is not None:
        raise click.UsageError(
            "--cohort and --split say whose the photographs are: give --photos and --cohort too"
        )
    with progress_bar("Training the encoder") as report:
        encoder = train_encoder(
            net, out, recipe, photos=chips, start=load_encoder(start) if start else None, progress=report
        )
    error = recovery(net, encoder, seed=recipe.seed + 1)
    if as_json:
        echo_json({"encoder": str(out), "images": recipe.images, "relative_error": error})
    else:
        click.echo(f"{out}: relative error of w on fresh photographed samples {error:.3f}")
