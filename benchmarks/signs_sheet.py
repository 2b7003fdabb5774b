"""A sheet of every painted sign at −3 … 3 SD on faces of several tones, all drawn by the bundled generator.

``python -m benchmarks.signs_sheet -o docs/img/signs.png``
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import stylegan_surv as ss
from stylegan_surv.signs import SIGNS, paint
from stylegan_surv.signs.face import framed_mesh
from stylegan_surv.simulate import draw, sample_w

SEED, DRAWN, TRUNCATION = 3, 84, 0.75
FACES = (75, 10, 17)  # of these samples: fair, middle and dark skin, seen from the front
DOSES = (-3, -2, -1, 0, 1, 2, 3)
CELL, LEFT, TOP, GAP = 80, 84, 22, 8  # pixels
COLOURS = 256  # of the file: a third of its size, and no difference to be seen


@click.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Write the sheet to this PNG."
)
@click.option(
    "--signs", "names", default=",".join(SIGNS), show_default=True, help="Names, separated by commas."
)
def main(out: Path, names: str) -> None:
    """Paint the sheet."""
    generator = ss.load_generator("synthetic-64")
    faces = draw(generator, sample_w(generator, DRAWN, SEED, TRUNCATION)[list(FACES)])
    meshes = [framed_mesh(face) for face in faces]
    chosen = names.split(",")
    block = len(DOSES) * CELL + GAP
    sheet = Image.new("RGB", (LEFT + len(FACES) * block, TOP + len(chosen) * CELL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, name in enumerate(chosen):
        pen.text((4, TOP + row * CELL + CELL // 2 - 8), name, fill="black", font=font)
        for k, (face, mesh) in enumerate(zip(faces, meshes)):
            for column, dose in enumerate(DOSES):
                picture = Image.fromarray(paint(face, mesh, {name: float(dose)}))
                at = (LEFT + k * block + column * CELL, TOP + row * CELL)
                sheet.paste(picture.resize((CELL, CELL), Image.Resampling.BICUBIC), at)
                if row == 0:
                    label = "0" if dose == 0 else f"{dose:+d}"
                    pen.text((at[0] + CELL // 2 - 8, 4), label, fill="black", font=font)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    click.echo(f"{out}: {sheet.width} × {sheet.height}, mean {np.asarray(sheet).mean():.1f}")


if __name__ == "__main__":
    main()
