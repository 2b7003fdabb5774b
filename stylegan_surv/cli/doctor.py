"""``stylegan-surv doctor``: what this machine runs, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stylegan_surv.cli._common import echo_json

if TYPE_CHECKING:
    from cuda_ops import Status


@click.command()
@click.option("--rebuild", is_flag=True, help="Forget compiled kernels and failed builds, and build again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(rebuild: bool, as_json: bool) -> None:
    """Tell which kernels run on this machine's CPU and GPU, and why; build them if need be."""
    import warnings

    from cuda_ops import rebuild as build_again
    from cuda_ops import status

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the report says the same
        found = build_again() if rebuild else status()
    if as_json:
        echo_json(asdict(found))
    else:
        _print(found)


def _print(found: Status) -> None:
    rows = {
        "torch": f"{found.torch}, CUDA {found.cuda or 'none'}, {found.cpu_capability}",
        "mode": f"{found.mode} (STYLEGAN_SURV_OPS)",
        "allocator": found.allocator,
        "compiler": found.compiler,
        "nvcc": found.nvcc,
        "CUDA architectures": ", ".join(found.architectures) or "none",
        "cache": found.cache,
    }
    for device in found.devices:
        rows[f"{device.device} kernels"] = f"{device.implementation}: {device.reason}"
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{name:<{width}}  {value}")
    for device in found.devices:
        if (
            device.log and device.implementation != "native"
        ):  # of a build that went well, nobody wants to read it
            click.echo(f"\nend of the {device.device} build log\n{device.log}")
