"""``stylegan-surv demo``: simulated patients through the whole line, beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from stylegan_surv.cli._common import echo_json, progress_bar
from stylegan_surv.cli.fit import echo_models

METHODS = click.Choice(["encoder", "hybrid", "projector"])


@click.command()
@click.option("-o", "--out", default="demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--n", default=1000, show_default=True, type=click.IntRange(50), help="Patients.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--method", default="encoder", show_default=True, type=METHODS, help="How photographs are embedded."
)
@click.option("--permutations", default=100, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="End with one JSON line.")
def command(out: Path, n: int, seed: int, method: str, permutations: int, as_json: bool) -> None:
    """Simulate patients with a planted truth, and see how much of it is found again."""
    from stylegan_surv.demo import demo

    with ExitStack() as bars:

        def stage(name: str) -> Callable[[int, int], None]:
            bars.close()
            return bars.enter_context(progress_bar(name))

        found, study, _ = demo(out, n, seed, method=method, permutations=permutations, n_jobs=-1, stage=stage)
    if as_json:
        echo_json(found.to_dict())
        return
    click.echo(
        "Simulated patients: faces drawn by the bundled generator, photographed (no detector), re-embedded.\n"
    )
    echo_models(study.metrics["models"])
    click.echo(
        f"\nall that the face could tell   C {found.oracle_c:.3f}  (found of C − 0.5: {found.recovered:.0%})"
    )
    click.echo(f"estimated against true score   r {found.score_cosine:.2f}")
    click.echo(f"estimated against true pattern cos {found.pattern_cosine:.2f}")
    if found.permuted_c is not None:
        click.echo(f"permuted outcomes              C {found.permuted_c:.3f}  (mean of {permutations})")
    click.echo(f"\n{out / 'report.html'}   ({found.seconds:.0f} s)")
