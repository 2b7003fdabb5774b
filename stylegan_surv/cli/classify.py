"""``stylegan-surv classify``: the case-control study of faces, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stylegan_surv.cli._common import columns_option, echo_json, names
from stylegan_surv.cli._progress import progress_bar

PATH = click.Path(path_type=Path)
photos_option = click.option(
    "--photos", required=True, type=PATH, help="Take the photographs from this folder."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


@click.group("classify")
def command() -> None:
    """Tell cases from controls by their faces, and ask whether it is the face that tells them apart."""


def _calipers(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in given:
        name, _, width = text.partition("=")
        try:
            found[name] = float(width)
        except ValueError as fault:
            raise click.BadParameter(f"{text!r}; expected COLUMN=WIDTH, such as age=3") from fault
    return found


@command.command("match")
@click.argument("table", metavar="TABLE", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Write the matched table to this folder.")
@click.option(
    "--method",
    type=click.Choice(["caliper", "frequency"]),
    default="caliper",
    show_default=True,
    help="Draw the nearest controls within calipers, or as many per cell of age and sex.",
)
@click.option("--ratio", default=1, show_default=True, help="Draw this many controls per case.")
@click.option(
    "--caliper",
    multiple=True,
    default=["age=3"],
    show_default=True,
    callback=_calipers,
    metavar="COLUMN=WIDTH",
    help="Allow this largest difference within a set; may be given several times.",
)
@click.option(
    "--exact",
    default="sex",
    show_default=True,
    callback=names,
    help="Match these columns exactly, with commas.",
)
@click.option(
    "--age-band", default=5.0, show_default=True, help="Make cells this wide, in years (frequency)."
)
@click.option(
    "--ages",
    nargs=2,
    type=float,
    default=(0.0, 125.0),
    show_default=True,
    help="Keep people of these ages, years.",
)
@click.option("--drop-unmatched", is_flag=True, help="Leave out cases without controls instead of refusing.")
@click.option("--case", default="case", show_default=True, help="Take this value of `group` for a case.")
@click.option(
    "--control", default="control", show_default=True, help="Take this value of `group` for a control."
)
@columns_option
@click.option("--seed", default=0, show_default=True, help="Choose between equal controls by this seed.")
@json_option
def match_command(
    table: Path,
    out: Path,
    method: Any,
    ratio: int,
    caliper: dict[str, float],
    exact: list[str],
    age_band: float,
    ages: tuple[float, float],
    drop_unmatched: bool,
    case: str,
    control: str,
    columns: dict[str, str],
    seed: int,
    as_json: bool,
) -> None:
    """Draw controls for the cases of TABLE (patient_id, photo, group, age, sex), nobody twice."""
    from stylegan_surv._files import check_folder
    from stylegan_surv.classify.match import MatchSettings, match
    from stylegan_surv.classify.people import read_people

    check_folder(out)
    people = read_people(table, columns=columns, case=case, control=control)
    settings = MatchSettings(method, ratio, caliper, tuple(exact), age_band, ages, drop_unmatched, seed)
    found = match(people, settings)
    found.save(out)
    cases = int(found.people.case.sum())
    if as_json:
        echo_json(
            {
                "out": str(out),
                "cases": cases,
                "controls": len(found.people) - cases,
                "unmatched": list(found.unmatched),
                "outside": found.outside,
                "balance": {row.name: row.after for row in found.balance if row.after == row.after},
            }
        )
        return
    click.echo(
        f"{cases} cases and {len(found.people) - cases} controls; {len(found.unmatched)} cases left out"
    )
    for row in found.balance:
        click.echo(f"{row.name}: standardised difference {row.before:.2f} before, {row.after:.2f} after")
    click.echo(f"Written to {out}")


def _shared(function: Callable[..., None]) -> Callable[..., None]:
    """Options of training that are defaults of its settings."""
    options = (
        click.option("--folds", default=5, show_default=True, help="Cross-validate with this many folds."),
        click.option("--holdout", default=0.0, show_default=True,
                     help="Keep this share of the sets as one test set instead; 0 for folds."),
        click.option("--mask", type=click.Choice(["head", "face"]), default="head", show_default=True,
                     help="Keep the head with its hair, or the face alone."),
        click.option("--even-light", is_flag=True, help="Give every face the same brightness and contrast."),
        click.option("--blocks", default=1, show_default=True, help="Train this many last blocks, 1 to 4."),
        click.option("--epochs", default=8, show_default=True, help="Train for at most this many passes."),
        click.option("--seeds", default=2, show_default=True, help="Average this many networks."),
        click.option("--copies", default=4, show_default=True, help="Train on this many versions of a chip."),
        click.option("--no-network", is_flag=True, help="Compare the linear arms only."),
        click.option("--seed", default=0, show_default=True, help="Divide and train by this seed."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@command.command("train")
@click.argument("matched", metavar="MATCHED", type=PATH)
@photos_option
@click.option("-o", "--out", required=True, type=PATH, help="Write the study to this folder.")
@click.option("--latents", type=PATH, help="Add an arm on these latents of the photographs.")
@_shared
@json_option
def train_command(
    matched: Path,
    photos: Path,
    out: Path,
    latents: Path | None,
    folds: int,
    holdout: float,
    mask: Any,
    even_light: bool,
    blocks: int,
    epochs: int,
    seeds: int,
    copies: int,
    no_network: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Cut chips of the people that `match` has written to MATCHED, train, compare, and write the report."""
    from stylegan_surv._files import check_folder
    from stylegan_surv.classify.chips import ChipSettings, make_chips
    from stylegan_surv.classify.match import open_match
    from stylegan_surv.classify.page import render
    from stylegan_surv.classify.study import CHIPS, StudySettings, classify, trunk_of
    from stylegan_surv.classify.training import TrainSettings
    from stylegan_surv.inversion import Latents

    check_folder(out)
    settings = StudySettings(
        folds=folds,
        holdout=holdout,
        network=not no_network,
        seed=seed,
        chip=ChipSettings(mask=mask, even_light=even_light),
        train=TrainSettings(blocks=blocks, epochs=epochs, seeds=seeds, copies=copies, seed=seed),
    )
    people = open_match(matched, photos)
    with progress_bar("Chips") as report:
        chips = make_chips(people.people, out / CHIPS, settings.chip, report)
    with progress_bar("Trunk") as report:
        trunk_of(chips, out, settings, report)
    with progress_bar("Networks") as report:
        result = classify(
            people, out, settings, latents=None if latents is None else Latents.open(latents), progress=report
        )
    page = render(out)
    if as_json:
        main = result.arms[result.main].auc
        echo_json(
            {
                "out": str(out),
                "auc": main.estimate,
                "low": main.low,
                "high": main.high,
                "believable": result.verdict.believable,
                "sentence": result.verdict.sentence,
                "arms": {name: arm.auc.estimate for name, arm in result.arms.items()},
            }
        )
        return
    click.echo(result.verdict.sentence)
    click.echo(str(page))


@command.command("explain")
@click.argument("study", metavar="STUDY", type=PATH)
@json_option
def explain_command(study: Path, as_json: bool) -> None:
    """Draw where the networks of STUDY look, on people they were not trained on, and check the maps."""
    from stylegan_surv.classify.later import add_explanation
    from stylegan_surv.classify.page import render

    with progress_bar("Explaining") as report:
        found = add_explanation(study, report)
    page = render(study)
    if as_json:
        echo_json(
            {
                "believable": found.believable,
                "random_correlation": found.random_correlation,
                "guided_distance": found.guided_distance,
                "shares": {c: {s.part: s.cam for s in rows} for c, rows in found.shares.items()},
            }
        )
        return
    said = "may be looked at" if found.believable else "say nothing of the network and are not to be believed"
    click.echo(f"The maps {said}: rank correlation with random weights {found.random_correlation:.2f}.")
    click.echo(str(page))


@command.command("averages")
@click.argument("study", metavar="STUDY", type=PATH)
@click.option("--covariates", default="age", show_default=True, callback=names,
              help="Take differences in these columns out of the shape, with commas.")  # fmt: skip
@click.option("--permutations", default=499, show_default=True, help="Deal the classes out this many times.")
@json_option
def averages_command(study: Path, covariates: list[str], permutations: int, as_json: bool) -> None:
    """Compare average faces, landmarks and measures of the people of STUDY, by sex."""
    from stylegan_surv._records import to_json
    from stylegan_surv.classify.averages import AverageSettings, averages_record
    from stylegan_surv.classify.later import add_averages
    from stylegan_surv.classify.page import render

    with progress_bar("Average faces") as report:
        found = add_averages(study, AverageSettings(tuple(covariates), permutations), report)
    page = render(study)
    if as_json:
        echo_json({"sexes": to_json(averages_record(found))})
        return
    for one in found:
        click.echo(
            f"{one.sex}: {one.sets} sets; shape p = {one.shape.whole_p:.3f}, {int(one.shape.found.sum())} of "
            f"{len(one.shape.found)} landmarks differ; picture p = {one.image.p:.3f}"
        )
    click.echo(str(page))


@command.command("report")
@click.argument("study", metavar="STUDY", type=PATH)
@click.option("-o", "--out", type=PATH, help="Write the page here. [default: STUDY/report.html]")
@click.option("--prevalence", type=float, help="Give predictive values where this share is ill, 0 to 1.")
@click.option("--faces", is_flag=True, help="Show the average faces; they are of real people, blended.")
def report_command(study: Path, out: Path | None, prevalence: float | None, faces: bool) -> None:
    """Draw the report of STUDY again; nothing is computed."""
    from stylegan_surv.classify.page import render

    click.echo(str(render(study, out, prevalence=prevalence, faces=faces)))
