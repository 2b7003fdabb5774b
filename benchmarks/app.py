"""How fast the page answers: the first picture, and edits from input to painted frame.

``python -m benchmarks.app STUDY [--seconds 5] [--json]``: the server is started twice (the second start is the warm
one), a headless Chromium opens the page and moves the slider at random, each time as soon as the last frame was
painted. Drawing alone is timed as well, with untrained networks of the published widths at 64, 128 and 256 px.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch
from playwright.sync_api import Page, sync_playwright

from stylegan_surv.attribute.edit import draw
from stylegan_surv.gan import Generator, GeneratorConfig

SIDES = (64, 128, 256)
MOVE = """async (seconds) => {
    const slider = document.getElementById("step"), start = performance.now();
    let frames = 0;
    while (performance.now() - start < 1000 * seconds) {
        slider.value = (Math.round(Math.random() * 60 - 30) / 10).toFixed(1);
        slider.dispatchEvent(new Event("input"));
        while (Number(document.body.dataset.painted) !== Number(slider.value)) {
            await new Promise((wake) => setTimeout(wake, 1));
        }
        await new Promise(requestAnimationFrame);
        frames += 1;
    }
    return 1000 * frames / (performance.now() - start);
}"""


@contextmanager
def served(study: Path) -> Iterator[str]:
    """The address of a server of its own process."""
    command = [sys.executable, "-m", "stylegan_surv", "app", str(study), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


def opened(page: Page, address: str, start: float) -> tuple[float, float]:
    """Seconds from the start of the server to the first face, and to the first edit."""
    page.goto(address)
    page.wait_for_selector("#photo:not([alt=''])", timeout=120_000)
    face = time.perf_counter() - start
    page.wait_for_selector("body[data-painted]", timeout=120_000)
    return face, time.perf_counter() - start


def draws(side: int, repeats: int = 10) -> float:
    """Pictures per second of an untrained generator."""
    network = Generator(GeneratorConfig(side)).eval().requires_grad_(False)
    latent = torch.randn(1, network.config.num_ws, network.config.w_dim)
    draw(network, latent)
    start = time.perf_counter()
    for _ in range(repeats):
        draw(network, latent)
    return repeats / (time.perf_counter() - start)


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--seconds", default=5.0, show_default=True, help="Move the slider for so long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(study: Path, seconds: float, as_json: bool) -> None:
    """Time the page of STUDY."""
    record: dict[str, float | dict[str, float]] = {}
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in ("cold", "warm"):
            start = time.perf_counter()
            with served(study) as address:
                page = chromium.new_page()
                record[f"{name}_face_s"], record[f"{name}_edit_s"] = opened(page, address, start)
                record["edits_per_s"] = page.evaluate(MOVE, seconds)
                page.close()
        chromium.close()
    record["draws_per_s"] = {str(side): draws(side) for side in SIDES}
    if as_json:
        print(json.dumps(record))
        return
    for key, value in record.items():
        print(f"{key:14} {value}")


if __name__ == "__main__":
    main()
