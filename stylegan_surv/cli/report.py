"""``stylegan-surv report``: the page of a saved study, drawn again."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.errors import InputError

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder", metavar="STUDY", type=PATH)
@click.option("-o", "--out", type=PATH, help="Write the page here. [default: STUDY/report.html]")
@click.option("--photos", type=PATH, help="Take patients' pictures from this folder of chips; needs --faces.")
@click.option("--faces", is_flag=True, help="Show the patients with the lowest and highest risks.")
def command(folder: Path, out: Path | None, photos: Path | None, faces: bool) -> None:
    """Draw the report of the folder STUDY again, from what `fit` has saved; nothing is computed."""
    from stylegan_surv.faces import Chips
    from stylegan_surv.study import Study

    if faces != (photos is not None):
        raise InputError("--faces shows the pictures of --photos; give both or neither")
    study = Study.open(folder, chips=None if photos is None else Chips.open(photos))
    if faces and study.portraits is None:
        raise InputError(f"{folder} was made without photographs and knows no faces; run `fit` with --photos")
    click.echo(str(study.report(out or folder / "report.html", faces=faces)))
