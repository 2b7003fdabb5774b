"""``stylegan-surv train-encoder``: an encoder to W+ for any generator."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.cli._common import TableOptions, echo_json
from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.cli._training import (
    PATH,
    TABLE_SETTINGS,
    override_option,
    patient_options,
    patients_of,
    refuse_idle,
)


@click.command("train-encoder")
@click.option(
    "--generator", default="synthetic-64", show_default=True, help="Train for this generator: file or name."
)
@click.option(
    "--label",
    type=click.IntRange(0),
    help="Draw this label of a conditional generator; by default none, which is said.",
)
@click.option(
    "--photos", type=PATH, help="Learn from real aligned chips too; the encoder's card names their patients."
)
@patient_options
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Never learn from this share of the patients of real chips.",
)
@click.option(
    "--hold-out-seed",
    default=0,
    show_default=True,
    help="Take the seed of the fine-tuning run that held them out.",
)
@click.option("--drop-captions", is_flag=True, help="Leave out real chips with a caption at an edge.")
@click.option("--start", help="Start from this encoder: file or name.")
@click.option(
    "-o", "--out", required=True, type=PATH, help="Write the encoder here (NAME.encoder.safetensors)."
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="End after so many images.",
)
@click.option(
    "--batch", type=click.IntRange(2), default=32, show_default=True, help="Take so many images a step."
)
@click.option("--rate", type=float, default=1e-3, show_default=True, help="Set Adam's learning rate.")
@click.option(
    "--real",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.25,
    show_default=True,
    help="Fill this share of a step with real chips.",
)
@override_option
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Draw all random numbers from this seed."
)
@click.option("--device", default="cpu", show_default=True, help="Train on cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line.")
def command(
    generator: str,
    label: int | None,
    photos: Path | None,
    table: Path | None,
    reading: TableOptions,
    split: Path | None,
    chosen: str,
    start: str | None,
    out: Path,
    overrides: tuple[str, ...],
    device: str,
    as_json: bool,
    **settings: float,
) -> None:
    """Train an encoder: samples of the generator with known latents, and real chips if there are any.

    Interrupt it whenever you like: the same command goes on where it stopped.
    """
    from stylegan_surv.gan import load_encoder, load_generator
    from stylegan_surv.gan.data import read_chips
    from stylegan_surv.inversion.train_encoder import encoder_settings, recovery, train_encoder

    of_photos = dict.fromkeys(("table", "hold_out", "drop_captions", "real"), "photos")
    of_table = dict.fromkeys(("split", *TABLE_SETTINGS), "table") | {"chosen": "split"}
    refuse_idle(of_photos | of_table | {"hold_out_seed": "hold_out"})
    recipe = encoder_settings(overrides, **settings)
    net = load_generator(generator, device, label=label)
    if net.label_note:
        click.echo(f"note: {net.label_note}", err=True)
    chips = None
    if photos is not None:
        patients = patients_of(photos, table, reading, split, chosen)
        chips = read_chips(photos, net.config.resolution, drop_captions=recipe.drop_captions)
        chips = chips if patients is None else patients.select(chips)
    with progress_bar("Training the encoder") as report:
        encoder = train_encoder(
            net, out, recipe, photos=chips, start=load_encoder(start) if start else None, progress=report
        )
    error = recovery(net, encoder, seed=recipe.seed + 1)
    if as_json:
        echo_json({"encoder": str(out), "images": recipe.images, "relative_error": error})
    else:
        click.echo(f"{out}: relative error of w on fresh photographed samples {error:.3f}")
