"""``stylegan-surv fit``: cross-validate survival models on latents and write the study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stylegan_surv.cli._common import (
    TableOptions,
    config_option,
    echo_json,
    gathered,
    names,
    numbers,
    pairs,
    setting,
    table_options,
)
from stylegan_surv.cli._progress import progress_bar
from stylegan_surv.study.settings import MODELS, StudySettings

if TYPE_CHECKING:
    from stylegan_surv.study import Study

PATH = click.Path(path_type=Path)


def _option(name: str, *flags: str, **how: Any) -> Any:
    return setting(StudySettings, name, *flags, **how)


SETTINGS = (
    _option("strata", help="Report within strata: a column, or column:width (entry_year:5). [default: none]"),
    _option("groups", help="Keep the levels of this column (site) together in one fold. [default: none]"),
    _option(
        "nuisance",
        callback=pairs,
        metavar="year=COLUMN,site=COLUMN,camera=COLUMN",
        help="Say which columns tell when, where and by what the photographs were taken. Years are found by their "
        "values, too, and text columns of few levels are tried as sites. [default: columns of these names]",
    ),
    _option("folds", type=click.IntRange(2), help="Divide the patients into so many outer folds."),
    _option("repeats", type=click.IntRange(1), help="Draw the division into folds so many times."),
    _option(
        "permutations",
        type=click.IntRange(0),
        help="Rerun the analysis with permuted photographs so many times; 0 leaves the tests out.",
    ),
    _option(
        "n_boot", "--boot", type=click.IntRange(0), help="Resample the patients so often for the intervals."
    ),
    _option(
        "horizons",
        callback=numbers,
        help="Report at these times, in the table's unit, with commas between; the middle one serves calibration and "
        "net benefit. [default: quartiles of the event times]",
    ),
    _option(
        "thresholds",
        callback=numbers,
        help="Report net benefit at these predicted risks, set before results are seen, with commas between.",
    ),
    _option(
        "linear",
        is_flag=True,
        help="Let every number among the clinical variables act along a line, not a penalised spline.",
    ),
    _option("seed", type=int, help="Start the random numbers here; the same seed gives the same study."),
    _option("strict", is_flag=True, help="Refuse patients whom the networks have, or may have, seen."),
    _option("n_jobs", "--jobs", type=int, help="Run so many processes over folds; -1 is one per core."),
    _option(
        "compare",
        callback=names,
        help="Set the photograph against: face-recognition (needs --photos). [default: none]",
    ),
    _option("edited", type=click.IntRange(0), help="Embed so many photographs again, edited; 0 for none."),
    _option(
        "skin_tone",
        "--skin-tone/--no-skin-tone",
        help="Judge bands of skin tone as subgroups, where the chips tell it (sensitive).",
    ),
    _option("title", help="Give the report this title."),
    _option("tried", type=click.IntRange(1), help="State how many configurations were tried, with this one."),
)


@click.command()
@config_option
@click.option("--latents", required=True, type=PATH, help="Read the latents from this folder of `embed`.")
@click.option("--cohort", "table", required=True, type=PATH, help="Read this clinical table.")
@table_options
@click.option("--photos", type=PATH, help="Check the pictures too: a folder of chips. [default: none]")
@click.option("-o", "--out", required=True, type=PATH, help="Write the study to this folder.")
@click.option(
    "--model",
    "models",
    callback=names,
    default=",".join(MODELS),
    show_default=True,
    help="Fit these models, with commas between: cox-ridge, cox-ridge-groups, cox-elasticnet, rsf, extra-trees, "
    "deepsurv.",
)
@click.option(
    "--clinical",
    callback=names,
    default="",
    help="Take these covariates beside the photograph, with commas between: age,sex,stage. [default: none]",
)
@gathered(StudySettings, "settings", SETTINGS)
@click.option(
    "--generator", help="Embed edited photographs with this generator. [default: the one the latents name]"
)
@click.option("--encoder", help="Embed edited photographs with this encoder. [default: the generator's]")
@click.option("--faces", is_flag=True, help="Allow pictures of patients in the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON line.")
def command(
    config: Path | None,
    latents: Path,
    table: Path,
    reading: TableOptions,
    photos: Path | None,
    out: Path,
    models: list[str],
    clinical: list[str],
    settings: StudySettings,
    generator: str | None,
    encoder: str | None,
    faces: bool,
    as_json: bool,
) -> None:
    """Cross-validate survival models on latents beside the clinical variables; write OUT/report.html."""
    from stylegan_surv.faces import Chips
    from stylegan_surv.inversion import Latents
    from stylegan_surv.study import evaluate

    if config is not None:  # its hash tells whether the plan was changed since
        digest = hashlib.sha256(config.read_bytes()).hexdigest()
        settings = replace(settings, plan=config.name, plan_sha256=digest)
    cohort = reading.read(table, photos, check_photos=False)
    with progress_bar("Cross-validating") as progress:
        study = evaluate(
            Latents.open(latents), cohort, models, clinical, settings, progress=progress,
            chips=None if photos is None else Chips.open(photos), generator=generator, encoder=encoder,
        )  # fmt: skip
    study.save(out, faces=faces)
    if as_json:
        flow = asdict(study.flow)
        echo_json({"models": study.metrics["models"], "flow": flow, "report": str(out / "report.html")})
    else:
        _echo(study, out)


def _echo(study: Study, out: Path) -> None:
    for reason, count in study.flow.excluded.items():
        click.echo(f"left out: {count} photographs: {reason}")
    click.echo(f"{study.flow.patients} patients, {study.flow.events} events")
    for row in study.metrics["covariates"]["table"]:
        click.echo(f"clinical: {row['name']}, {row['kind']}, gives {', '.join(row['columns'])}")
    echo_models(study.metrics["models"])
    click.echo(f"{out / 'report.html'}")


def echo_models(models: Mapping[str, Any]) -> None:
    """The C-index table: one line a model, estimate and 95 % interval."""
    kinds = [k for k in ("harrell_c", "uno_c", "stratified_c") if any(k in m for m in models.values())]
    click.echo(f"{'model':<16}" + "".join(f"{k:<24}" for k in kinds))
    for name, metrics in models.items():
        cells = [metrics.get(k) for k in kinds]
        texts = ["" if c is None else f"{c['estimate']:.3f} ({c['low']:.3f}–{c['high']:.3f})" for c in cells]
        click.echo(f"{name:<16}" + "".join(f"{t:<24}" for t in texts))
