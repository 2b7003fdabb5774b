"""``stylegan-surv app``: the health attribute of a study in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from stylegan_surv.app import ServeSettings, serve
from stylegan_surv.errors import InputError


@click.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Listen here. [default: a free port]")
@click.option("--no-browser", is_flag=True, help="Do not open the page in the browser.")
@click.option(
    "--host",
    default=ServeSettings.host,
    show_default=True,
    help="Listen under this name or address of this machine; any other than the default needs --password, and what is "
    "sent is not encrypted: put a server with TLS before it.",
)
@click.option(
    "--password",
    prompt=True,
    prompt_required=False,
    hide_input=True,
    default="",
    envvar="STYLEGAN_SURV_PASSWORD",
    help="Ask for this password beside the token; without a value it is asked for here.",
)
@click.option("--faces", is_flag=True, help="Let patients of the study be chosen; needs --photos.")
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    help="Take their pictures from this folder of chips; needs --faces.",
)
def command(
    folder: Path, port: int, no_browser: bool, host: str, password: str, faces: bool, photos: Path | None
) -> None:
    """Show faces along the health attribute of the folder STUDY, on a page of this machine.

    One line with the address and its token is printed when the page answers. Photographs stay in memory, nothing is
    written, and nothing leaves the machine. Control-C ends it.
    """
    if faces != (photos is not None):
        raise InputError("--faces shows the pictures of --photos; give both or neither")
    settings = ServeSettings(port, host, password, not no_browser, photos)
    counts = serve(folder, settings, click.echo)
    click.echo(
        "Ended. " + (", ".join(f"{number} {name}" for name, number in counts.items()) or "Nobody came.")
    )
