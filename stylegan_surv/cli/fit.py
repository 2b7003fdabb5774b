"""``stylegan-surv fit``: cross-validate survival models on latents and write the study."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._common import columns_option, config_option, echo_json, names, progress_bar


@click.command()
@config_option
@click.option("--latents", required=True, type=click.Path(path_type=Path), help="Folder that embed wrote.")
@click.option("--cohort", "table", required=True, type=click.Path(path_type=Path), help="Clinical table.")
@click.option(
    "--photos", type=click.Path(path_type=Path), help="Chips folder: adds the checks on the pictures."
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the study.")
@click.option("--model", "models", callback=names, default="cox-ridge,rsf", show_default=True)
@click.option(
    "--clinical", callback=names, default="", help="Covariates, with commas between: age,sex,stage."
)
@click.option(
    "--strata", default=None, help="Report within strata: a column, or column:width (entry_year:5)."
)
@click.option("--groups", default=None, help="Keep the levels of this column (site) together in one fold.")
@click.option(
    "--compare",
    callback=names,
    default="",
    help="Set the photograph against: face-recognition (needs --photos).",
)
@click.option(
    "--edited",
    default=32,
    show_default=True,
    type=click.IntRange(0),
    help="Photographs to embed again, edited.",
)
@click.option("--generator", default=None, help="Of the latents, for that; by default the one they name.")
@click.option("--encoder", default=None, help="Of the latents, for that; by default the generator's.")
@columns_option
@click.option("--time-unit", default="years", show_default=True)
@click.option("--time-origin", default="", help="What time zero is, in words: diagnosis, start of treatment.")
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1))
@click.option("--permutations", default=199, show_default=True, type=click.IntRange(0))
@click.option("--seed", default=0, show_default=True)
@click.option("--title", default=None, help="Of the report.")
@click.option(
    "--tried", default=None, type=click.IntRange(1), help="Configurations tried on these data, with this one."
)
@click.option("--jobs", default=-1, show_default="one per core", help="Processes over folds.")
@click.option("--strict", is_flag=True, help="Refuse patients whom the networks have, or may have, seen.")
@click.option("--faces", is_flag=True, help="Allow pictures of patients in the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON line.")
def command(
    config: Path | None,
    latents: Path,
    table: Path,
    photos: Path | None,
    out: Path,
    models: list[str],
    clinical: list[str],
    strata: str | None,
    groups: str | None,
    compare: list[str],
    edited: int,
    generator: str | None,
    encoder: str | None,
    columns: dict[str, str],
    time_unit: str,
    time_origin: str,
    folds: int,
    repeats: int,
    permutations: int,
    seed: int,
    title: str | None,
    tried: int | None,
    jobs: int,
    strict: bool,
    faces: bool,
    as_json: bool,
) -> None:
    """Cross-validate survival models on latents beside the clinical variables; write OUT/report.html."""
    from stylegan_surv.cohort import read_cohort
    from stylegan_surv.faces import Chips
    from stylegan_surv.inversion import Latents
    from stylegan_surv.study import evaluate

    cohort = read_cohort(
        table, photos, columns=columns, time_unit=time_unit, time_origin=time_origin, check_photos=False
    )
    with progress_bar("Cross-validating") as progress:
        study = evaluate(
            Latents.open(latents), cohort, models, clinical, strata=strata, groups=groups, folds=folds,
            repeats=repeats, permutations=permutations, seed=seed, strict=strict, n_jobs=jobs, progress=progress,
            chips=None if photos is None else Chips.open(photos), compare=compare, edited=edited,
            generator=generator, encoder=encoder, about=_about(config, title, tried),
        )  # fmt: skip
    study.save(out, faces=faces)
    if as_json:
        echo_json({"models": study.metrics["models"], "flow": study.flow, "report": str(out / "report.html")})
        return
    for reason, count in study.flow["excluded"].items():
        click.echo(f"left out: {count} photographs: {reason}")
    click.echo(f"{study.flow['patients']} patients, {study.flow['events']} events")
    echo_models(study.metrics["models"])
    click.echo(f"{out / 'report.html'}")


def _about(config: Path | None, title: str | None, tried: int | None) -> dict[str, Any]:
    """What the page states of the analysis itself, with the hash that tells whether its file was changed since."""
    about: dict[str, Any] = {"title": title, "tried": tried}
    if config is not None:
        about |= {"file": config.name, "file_sha256": hashlib.sha256(config.read_bytes()).hexdigest()}
    return {name: value for name, value in about.items() if value is not None}


def echo_models(models: dict[str, Any]) -> None:
    """The C-index table: one line a model, estimate and 95 % interval."""
    kinds = [k for k in ("harrell_c", "uno_c", "stratified_c") if any(k in m for m in models.values())]
    click.echo(f"{'model':<16}" + "".join(f"{k:<24}" for k in kinds))
    for name, metrics in models.items():
        cells = [metrics.get(k) for k in kinds]
        texts = ["" if c is None else f"{c['estimate']:.3f} ({c['low']:.3f}–{c['high']:.3f})" for c in cells]
        click.echo(f"{name:<16}" + "".join(f"{t:<24}" for t in texts))
