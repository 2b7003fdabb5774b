"""What the training commands share: options of a run, whose photographs they are, options that would do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from stylegan_surv.cli._common import TableOptions, echo_json, table_options
from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from stylegan_surv.gan.data import Patients
    from stylegan_surv.gan.training import Run

PATH = click.Path(path_type=Path)
TABLE_SETTINGS = ("columns", "time_unit", "time_origin")  # they say how a table is read
SHOWN = 20  # skipped photographs that are listed

override_option = click.option(
    "--override",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Replace a setting, such as adversarial.weight=0.5 or features=null; may be given several times.",
)
RUN_OPTIONS = (
    click.option(
        "--photos",
        required=True,
        type=PATH,
        help="Name the folder of chips that `stylegan-surv align` wrote.",
    ),
    click.option(
        "-o",
        "--out",
        required=True,
        type=PATH,
        help="Name the folder of the run; an interrupted run there goes on.",
    ),
    click.option(
        "--recipe",
        "settings",
        required=True,
        type=PATH,
        help="Take all settings from a YAML file, or from a shipped recipe such as finetune-64.",
    ),
    override_option,
    click.option(
        "--images", type=click.IntRange(1), help="End after so many images, instead of the recipe's number."
    ),
    click.option("--seed", type=int, help="Take this seed instead of the recipe's."),
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="Train on cpu or cuda; under torchrun each process takes its GPU.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON line."),
)
PATIENT_OPTIONS = (
    click.option("--cohort", "table", type=PATH, help="Read whose each photograph is from a clinical table."),
    table_options,
    click.option(
        "--split", type=PATH, help="Use one set's patients alone, of what `stylegan-surv split` wrote."
    ),
    click.option("--set", "chosen", default="finetune", show_default=True, help="Name the set of the split."),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `train` and `finetune` share."""
    return _with(RUN_OPTIONS, command)


def patient_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say whose the photographs are."""
    return _with(PATIENT_OPTIONS, command)


def _with(options: tuple[Callable[..., Any], ...], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def refuse_idle(needs: Mapping[str, str]) -> None:
    """Refuse options that were given without the one that they belong to.

    Parameters
    ----------
    needs : mapping of str to str
        Parameter name of an option to that of the option without which it does nothing.
    """
    context = click.get_current_context()
    options = {parameter.name: parameter.opts[-1] for parameter in context.command.params}

    def given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source not in (None, ParameterSource.DEFAULT) and bool(context.params[name])

    for name, needed in needs.items():
        if given(name) and not given(needed):
            raise InputError(
                f"{options[name]} does nothing without {options[needed]}: give both, or leave it out"
            )


def patients_of(
    photos: Path, table: Path | None, reading: TableOptions, split: Path | None, chosen: str
) -> Patients | None:
    """Whose photographs they are, as far as the command line says."""
    from stylegan_surv.gan.data import Patients

    refuse_idle(dict.fromkeys(("split", *TABLE_SETTINGS), "table") | {"chosen": "split"})
    if table is None:
        return None
    return Patients(reading.read(table, photos, check_photos=False), split, chosen)


def echo_run(run: Run, as_json: bool) -> None:
    """What a run left, as one JSON line or in words."""
    if as_json:
        echo_json({**asdict(run), "folder": str(run.folder), "skipped": len(run.skipped)})
        return
    for photo, reason in run.skipped[:SHOWN]:
        click.echo(f"skipped {photo}: {reason}", err=True)
    if len(run.skipped) > SHOWN:
        click.echo(f"… and {len(run.skipped) - SHOWN} more", err=True)
    for note in run.notes:
        click.echo(f"note: {note}")
    done = "finished" if run.finished else "interrupted, the same command goes on"
    best = f"; best held-out LPIPS {run.best['lpips']:.4f} (best/)" if run.best else ""
    click.echo(f"{run.images} images, {done}{best}. Networks, sheets and log: {run.folder}")
    for measure, found in run.memorisation.items():
        click.echo(
            f"copies? by {measure}: {found['closer']:.0%} of samples closer to a training photograph than 95 % "
            f"of the held-out ones are, {found['isolated']:.0%} close to one alone (5 % is chance)"
        )
