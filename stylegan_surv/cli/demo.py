"""``stylegan-surv demo``: simulated patients through the whole line, beside the truth."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from stylegan_surv._types import Progress
from stylegan_surv.cli._common import echo_json, gathered, setting
from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.cli.fit import echo_models
from stylegan_surv.demo import DemoSettings

METHODS = click.Choice(["encoder", "hybrid", "projector"])
LEAST = 50  # patients that folds and permutations need
SETTINGS = (
    setting(DemoSettings, "n", type=click.IntRange(LEAST), help="Simulate so many patients."),
    setting(DemoSettings, "seed", type=int, help="Start the random numbers here."),
    setting(
        DemoSettings,
        "truth",
        type=click.Choice(["signs", "latent"]),
        help="Raise the hazard by painted signs of illness, or by a direction of the generator's latent space.",
    ),
    setting(DemoSettings, "method", type=METHODS, help="Embed the photographs in this way."),
    setting(
        DemoSettings,
        "permutations",
        type=click.IntRange(0),
        help="Rerun the analysis with permuted photographs so many times; 0 leaves the tests out.",
    ),
)


@click.command()
@click.option(
    "-o",
    "--out",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Write everything to this folder.",
)
@gathered(DemoSettings, "settings", SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON line.")
def command(out: Path, settings: DemoSettings, as_json: bool) -> None:
    """Simulate patients with a planted truth, and see how much of it is found again."""
    from stylegan_surv.demo import demo

    with ExitStack() as bars:

        def stage(name: str) -> Progress:
            bars.close()
            return bars.enter_context(progress_bar(name))

        found, study, _ = demo(out, settings, stage=stage)
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
        click.echo(
            f"permuted outcomes              C {found.permuted_c:.3f}  (mean of {settings.permutations})"
        )
    click.echo(f"\n{out / 'report.html'}   ({found.seconds:.0f} s)")
