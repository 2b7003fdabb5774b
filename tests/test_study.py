"""The study from latents to the written folder, in Python and on the command line."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import stylegan_surv as ss
from stylegan_surv._files import sha256
from stylegan_surv._records import sealed
from stylegan_surv.audit.rivals import Rivals
from stylegan_surv.audit.sections import audit
from stylegan_surv.cli import cli
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.study.data import Exposure, StudyData
from stylegan_surv.study.evaluation import cross_validate, judge

N, LAYERS, WIDTH = 120, 3, 10
USUAL = ss.StudySettings(strata="site", repeats=1, permutations=20, n_boot=200, n_jobs=1)
QUICK = ss.StudySettings(repeats=1, permutations=0, n_boot=50, n_jobs=1, final=False)


def make(seed: int = 0) -> tuple[pd.DataFrame, ss.Latents]:
    """A table and latents in which the first latent raises the hazard."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(N, 1, WIDTH)) + 0.1 * rng.normal(size=(N, LAYERS, WIDTH))
    age = rng.normal(60, 10, N)
    time = rng.exponential(np.exp(-1.2 * w[:, 0, 0] - 0.03 * (age - 60))) + 1e-3
    censor = rng.exponential(1.5, N) + 1e-3
    names = [f"P{i:03d}" for i in range(N)]
    table = pd.DataFrame(
        {
            "patient_id": names, "photo": [f"{n}.jpg" for n in names], "time": np.minimum(time, censor),
            "event": (time <= censor).astype(int), "age": age, "site": rng.choice(["A", "B"], N),
        }
    )  # fmt: skip
    synthetic = {"kind": "synthetic"}
    about = {"generator": "test", "provenance": {"generator": synthetic, "encoder": synthetic}}
    return table, ss.Latents.from_arrays(w.astype(np.float32), names, names, about)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    table, latents = make()
    table.to_csv(root / "clinical.csv", index=False)
    latents.save(root / "latents")
    return root


@pytest.fixture(scope="module")
def study(folder: Path) -> ss.Study:
    cohort = ss.read_cohort(folder / "clinical.csv", check_photos=False)
    latents = ss.Latents.open(folder / "latents")
    return ss.evaluate(latents, cohort, ["cox-ridge"], ["age"], USUAL)


def test_the_planted_signal_is_found(study: ss.Study) -> None:
    c = {name: study.metrics["models"][name]["harrell_c"] for name in ("photo", "clinical", "both")}
    assert c["photo"]["low"] > 0.6
    assert c["both"]["estimate"] > c["clinical"]["estimate"] + 0.05
    assert "stratified_c" in study.metrics["models"]["photo"]


def test_permuted_outcomes_are_at_one_half(study: ss.Study) -> None:
    control = study.metrics["controls"]["permuted_outcome"]
    assert control["mean"] == pytest.approx(0.5, abs=0.03)
    assert control["p"] == pytest.approx(1 / 21)


def test_the_attribute_points_at_the_planted_latent(study: ss.Study) -> None:
    assert study.attribute is not None
    d = study.attribute.pattern.sum(axis=0)
    assert d[0] / np.linalg.norm(d) > 0.8
    assert study.attribute.adjusted is not None


def test_rows_and_patients_are_accounted_for(study: ss.Study) -> None:
    assert study.flow.photos == study.flow.patients == N
    assert study.flow.excluded == {}
    assert set(study.oof["model"]) == {"photo", "clinical", "both", "nuisance"}  # the table has a site
    assert len(study.oof) == 4 * N


def test_what_is_saved_predicts_and_reads_back(study: ss.Study, folder: Path) -> None:
    study.save(folder / "saved")
    from stylegan_surv.study import predict

    names = {p.name for p in (folder / "saved").iterdir()}
    assert {"report.html", "metrics.json", "oof.parquet", "folds.parquet", "model"} <= names
    assert not [n for n in names if n.startswith("_")]
    latents = ss.Latents.open(folder / "latents")
    table = predict(folder / "saved/model", latents)
    x = latents.w_plus.reshape(N, -1)
    np.testing.assert_allclose(table["risk"], study.model.predict(x), rtol=1e-6)
    curves = table.filter(like="S(").to_numpy()
    assert curves.shape[1] == len(study.metrics["settings"]["horizons"])
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    assert curves.min() >= 0
    assert curves.max() <= 1
    assert json.loads((folder / "saved/metrics.json").read_text()) == study.metrics


def test_the_page_holds_no_link_to_elsewhere_and_the_caution(study: ss.Study, folder: Path) -> None:
    page = study.report(folder / "page.html").read_text(encoding="utf-8")
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert "not a diagnosis" in page


# numbers of the sentences themselves: "95 % interval", "0.5 is chance", "p < 0.001"
SAID = {95.0, 0.5, 0.0, 1.0, 5.0, 0.001}


def flat(value: object) -> list[float]:
    """All numbers of nested metrics, the lengths of lists, and numbers that are keys or part of a text."""
    if isinstance(value, dict):
        return flat(list(value)) + [x for v in value.values() for x in flat(v)]
    if isinstance(value, list):
        return [float(len(value)), *(x for v in value for x in flat(v))]
    if isinstance(value, str):
        return [float(x) for x in re.findall(r"\d+(?:\.\d+)?", value)]
    return [float(value)] if isinstance(value, (int, float)) else []


def test_every_number_on_the_page_is_in_the_metrics(study: ss.Study, folder: Path) -> None:
    """Cells of the tables and sentences of the first screen, to the digits that they show."""
    study.save(folder / "numbers")
    html = (folder / "numbers/report.html").read_text(encoding="utf-8")
    known = np.array(flat(json.loads((folder / "numbers/metrics.json").read_text())))
    html = re.sub(r'<section id="(card|tripod|provenance)".*?</section>', "", html, flags=re.S)
    cells = re.findall(r"<td>(.*?)</td>", html, flags=re.S) + re.findall(
        r'<div class="finding.*?</div>', html
    )
    numbers = re.findall(
        r"(?<![\w.#&])\d[\d,]*(?:\.\d+)?", " ".join(re.sub(r"<h3>.*?</h3>", "", c) for c in cells)
    )
    assert len(numbers) > 60
    for text in numbers:
        shown = float(text.replace(",", ""))
        half = 0.5 * 10.0 ** -len(text.partition(".")[2]) + 1e-9
        near = [abs(scale * abs(known) - shown) <= half for scale in (1, 100)]  # as itself or in per cent
        assert shown in SAID or np.any(near) or rounded(known, text), f"{text} is not in metrics.json"


def rounded(known: np.ndarray, text: str) -> bool:
    """Whether `text` is one of the numbers to three or four significant digits."""
    return any(f"{x:.{digits}g}" == text for x in known for digits in (3, 4))


def test_same_seed_same_study(folder: Path, study: ss.Study) -> None:
    cohort = ss.read_cohort(folder / "clinical.csv", check_photos=False)
    again = ss.evaluate(ss.Latents.open(folder / "latents"), cohort, ["cox-ridge"], ["age"], USUAL)
    pd.testing.assert_frame_equal(again.oof, study.oof)
    assert again.metrics == study.metrics


def test_unknown_provenance_is_said_and_strict_refuses(folder: Path) -> None:
    table, latents = make()
    unknown = ss.Latents.from_arrays(latents.w_plus, list(latents.ids), list(latents.patient_ids))
    cohort = ss.read_cohort(table, check_photos=False)
    study = ss.evaluate(unknown, cohort, settings=QUICK)
    assert "cannot be excluded" in study.provenance.text
    with pytest.raises(Refused, match="--strict"):
        ss.evaluate(unknown, cohort, settings=replace(QUICK, strict=True))


def test_a_projector_needs_no_encoder_to_have_a_known_past() -> None:
    table, latents = make()
    about = {"generator": "test", "provenance": {"generator": {"kind": "synthetic"}}}
    ids = list(latents.ids), list(latents.patient_ids)
    found = Exposure.of(
        ss.Latents.from_arrays(latents.w_plus, *ids, about), ss.read_cohort(table, check_photos=False)
    )
    assert not found.leak


def test_patients_whom_the_networks_had_seen_do_not_count(folder: Path) -> None:
    from stylegan_surv.gan.formats.provenance import patient_key

    table, latents = make()
    seen = [str(p) for p in latents.patient_ids[:40]]
    record = {
        "kind": "photographs",
        "salt": "s",
        "patients": [patient_key(p, "s") for p in seen],
        "photos": [],
    }
    about = {"generator": "test", "provenance": {"generator": record, "encoder": {"kind": "synthetic"}}}
    tuned = ss.Latents.from_arrays(latents.w_plus, list(latents.ids), list(latents.patient_ids), about)
    cohort = ss.read_cohort(table, check_photos=False)
    study = ss.evaluate(tuned, cohort, settings=QUICK)
    assert study.provenance.seen == tuple(sorted(seen))
    assert not set(study.oof["patient_id"]) & set(seen)
    assert len(study.outcome) == N - 40
    c = study.metrics["c_provenance"]
    assert c["outside"]["estimate"] == pytest.approx(
        study.metrics["models"]["photo"]["harrell_c"]["estimate"]
    )
    assert c["inside"]["estimate"] > 0.5
    with pytest.raises(Refused, match="40 of the study's patients"):
        ss.evaluate(tuned, cohort, settings=replace(QUICK, strict=True))


def test_photographs_are_found_under_the_names_of_a_larger_folder() -> None:
    table, latents = make()
    cohort = ss.read_cohort(table, check_photos=False)
    own = cohort.table["photo_id"].iloc[0]
    paths = [f"/photos/2020/{photo}" for photo in cohort.table["photo"]]
    renamed = ["2020_" + name for name in latents.ids]
    elsewhere = ss.Latents.from_arrays(
        latents.w_plus, renamed, list(latents.patient_ids), dict(latents.metadata), source_path=paths
    )
    study = ss.evaluate(elsewhere, cohort, settings=QUICK)
    assert study.flow.patients == N
    assert study.cohort is not None
    assert study.cohort.table["photo_id"].iloc[0] == f"2020_{own}"


def test_latents_of_another_patient_are_refused() -> None:
    table, latents = make()
    owners = [latents.patient_ids[1], *latents.patient_ids[1:]]
    mixed = ss.Latents.from_arrays(latents.w_plus, list(latents.ids), owners, dict(latents.metadata))
    with pytest.raises(InputError, match="1 photographs belong to other patients than in the table"):
        ss.evaluate(mixed, ss.read_cohort(table, check_photos=False), settings=QUICK)


def test_photographs_that_were_not_compared_are_said_to_be_so() -> None:
    table, latents = make()
    record = {"kind": "photographs", "salt": "s", "patients": [], "photos": ["0" * 64]}
    about = {"provenance": {"generator": record}}
    ids = list(latents.ids), list(latents.patient_ids)
    found = Exposure.of(
        ss.Latents.from_arrays(latents.w_plus, *ids, about), ss.read_cohort(table, check_photos=False)
    )
    assert found.text.startswith("By their identifiers, no patient of this study was among")
    assert "photographs were not compared" in found.text


def test_bands_of_skin_tone_are_subgroups_where_they_are_known() -> None:
    table, latents = make()
    data = StudyData.prepare(latents, ss.read_cohort(table, check_photos=False), ["age"], QUICK)
    division, rivals = data.division(QUICK), Rivals({})
    found = cross_validate(data, ["cox-ridge"], rivals, division, QUICK)
    judged = judge(data, found, division[0], rivals, None, QUICK)
    known = replace(judged, skin_tone=np.linspace(-60, 75, N))
    bands = [s for s in audit(known, n_permutations=0).subgroups if s.column == "skin_tone"]
    assert sum(band.patients for band in bands) == N
    assert all(band.estimate is not None for band in bands)  # those with few events were merged
    assert [band.level for band in bands] == sorted(band.level for band in bands)
    assert "skin_tone" not in {s.column for s in audit(judged, n_permutations=0).subgroups}


def test_a_patient_without_latent_is_left_out_and_said(folder: Path) -> None:
    table, latents = make()
    cohort = ss.read_cohort(table, check_photos=False)
    fewer = latents.select(list(latents.ids)[:-3])
    study = ss.evaluate(fewer, cohort, settings=QUICK)
    assert study.flow.patients == N - 3
    assert study.flow.excluded == {"not among the latents": 3}


def test_the_data_are_the_same_patients_in_the_same_order() -> None:
    table, latents = make()
    data = StudyData.prepare(latents, ss.read_cohort(table, check_photos=False), ["age"], USUAL)
    assert list(data.ids) == list(data.table["patient_id"]) == list(data.outcome.patient_id)
    row = {name: k for k, name in enumerate(latents.ids)}
    expected = [latents.w_plus[row[p]].ravel() for p in data.ids]
    np.testing.assert_array_equal(data.x, np.array(expected))
    assert data.strata is not None
    assert (data.strata == data.table["site"]).all()
    assert data.fresh.all()


def test_a_model_is_fitted_with_the_parameters_that_are_given() -> None:
    table, latents = make()
    cohort = ss.read_cohort(table, check_photos=False)
    model = ss.fit(latents, cohort, strata="site", parameters={"alphas": (7.0,), "cv": None})
    assert model.alpha_ == 7.0


# --------------------------------------------------------------------------------------------- files that last


@pytest.fixture(scope="module")
def saved(study: ss.Study, folder: Path) -> Path:
    return study.save(folder / "kept")


def test_a_study_that_is_opened_draws_the_same_page(study: ss.Study, saved: Path, tmp_path: Path) -> None:
    opened = ss.Study.open(saved)
    assert opened.metrics == study.metrics
    assert (opened.flow, opened.provenance, opened.facts) == (study.flow, study.provenance, study.facts)
    pd.testing.assert_frame_equal(opened.oof, study.oof)
    assert opened.report(tmp_path / "again.html").read_bytes() == (saved / "report.html").read_bytes()
    code, text = invoke("report", str(saved), "-o", str(tmp_path / "cli.html"))
    assert code == 0, text
    assert (tmp_path / "cli.html").read_bytes() == (saved / "report.html").read_bytes()


def test_files_of_a_study_carry_a_format_version(saved: Path) -> None:
    for name in ("metrics.json", "study.json", "model/card.json", "model/page.json"):
        assert json.loads((saved / name).read_text())["format"] == 1, name
    for name in ("oof", "folds", "chosen"):
        about = pq.read_schema(saved / f"{name}.parquet").metadata[b"stylegan_surv"]
        assert json.loads(about)["format"] == 1, name


def test_a_table_of_another_format_is_refused(saved: Path, tmp_path: Path) -> None:
    for path in saved.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    pd.read_parquet(saved / "folds.parquet").to_parquet(tmp_path / "folds.parquet")
    with pytest.raises(InputError, match=r"folds\.parquet is damaged: it is not as it was written"):
        ss.Study.open(tmp_path)
    facts = json.loads((tmp_path / "study.json").read_text())
    facts["files"]["folds.parquet"] = sha256(tmp_path / "folds.parquet")
    (tmp_path / "study.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"study\.json is damaged: it is not as it was written"):
        ss.Study.open(tmp_path)
    del facts["seal"]
    (tmp_path / "study.json").write_text(json.dumps(sealed(facts)))
    with pytest.raises(InputError, match=r"folds\.parquet has the format None"):
        ss.Study.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", '{"format": 0}', "has the format 0"),
        ("study.json", "{}", "has the format None"),
        ("study.json", "[]", "expected an object"),
        ("metrics.json", "{", "is damaged"),
        ("study.json", None, "there is no study.json"),
        ("oof.parquet", "nothing", "it is not as it was written"),
        ("oof.parquet", None, "not a whole study"),
        ("metrics.json", '{"format": 1, "models": {}}', "it is not as it was written"),
    ],
)
def test_a_study_that_cannot_be_read_is_one_message(
    saved: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    for path in saved.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        ss.Study.open(tmp_path)


def test_the_model_folder_names_no_patient_and_holds_no_row(
    study: ss.Study, saved: Path, folder: Path
) -> None:
    assert study.outcome is not None
    rows = ss.Latents.open(folder / "latents").w_plus.reshape(N, -1)
    paths = [path for path in (saved / "model").rglob("*") if path.is_file()]
    files = {str(path.relative_to(saved / "model")): path.read_bytes() for path in paths}
    for path in paths:
        if path.suffix == ".skops":
            with zipfile.ZipFile(path) as archive:
                files |= {f"{path}/{name}": archive.read(name) for name in archive.namelist()}
    assert {"clinical/model.skops", "photo/model.skops", "both/model.skops"} <= set(files)
    assert {"page.json", "page.safetensors", "card.json", "direction.safetensors"} <= set(files)
    for name, content in files.items():
        assert not [p for p in study.outcome.patient_id if str(p).encode() in content], name
        for row in rows:
            assert row.astype("<f4").tobytes() not in content, name
            assert row.astype("<f8").tobytes() not in content, name


def test_patients_whom_the_networks_had_seen_are_counted_in_the_card_and_not_named(study: ss.Study) -> None:
    leaky = replace(study, provenance=Exposure(("P001", "P002"), (), "Two of them."))
    assert leaky.card()["provenance"] == {"leak": True, "seen": 2, "unknown": [], "text": "Two of them."}


def test_defaults_of_the_command_line_are_those_of_python() -> None:
    command = cli.get_command(None, "fit")  # type: ignore[arg-type]
    assert command is not None
    shown = {option.name: option.default for option in command.params}
    for setting in fields(ss.StudySettings):
        if setting.name in shown:
            given = setting.default
            default = ",".join(map(str, given)) if isinstance(given, tuple) else given
            assert shown[setting.name] == default, setting.name
    assert shown["models"] == "cox-ridge"
    reading = inspect.signature(ss.read_cohort).parameters
    for name in ("time_unit", "time_origin"):
        assert shown[name] == reading[name].default


# ------------------------------------------------------------------------------------------------- command line


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and all output of the command, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "stylegan_surv", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_fit_and_predict_on_the_command_line(folder: Path) -> None:
    code, text = run(
        "fit", "--latents", folder / "latents", "--cohort", folder / "clinical.csv", "-o", folder / "out", "--model",
        "cox-ridge", "--clinical", "age", "--strata", "site", "--repeats", 1, "--permutations", 3,
    )  # fmt: skip
    assert code == 0, text
    assert "photo" in text
    assert (folder / "out/report.html").stat().st_size > 10_000
    code, text = run(
        "predict", "--model", folder / "out/model", "--latents", folder / "latents", "-o", folder / "r.csv"
    )
    assert code == 0, text
    assert list(pd.read_csv(folder / "r.csv").columns[:3]) == ["patient_id", "n_photos", "risk"]
    kept = (folder / "r.csv").read_bytes()
    again = (
        "predict",
        "--model",
        folder / "out/model",
        "--latents",
        folder / "latents",
        "-o",
        folder / "r.csv",
    )
    code, text = run(*again)
    assert code == 2
    assert "r.csv exists already; name another file. Or give --force" in " ".join(text.split())
    assert (folder / "r.csv").read_bytes() == kept
    assert run(*again, "--force")[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--clinical", "weight"], "no column 'weight'"),
        (["--model", "magic"], "magic"),
        (["--strata", "weight:5"], "weight"),
        (["--groups", "ward"], "no column 'ward'"),
        (["--column", "time"], "NAME=COLUMN"),
        (["--latents", "nowhere"], "nowhere"),
        (["--cohort", "nowhere.csv"], "nowhere.csv"),
        (["--folds", "1"], "folds"),
    ],
)
def test_wrong_words_end_in_one_message(
    folder: Path, tmp_path: Path, change: list[str], message: str
) -> None:
    words = [
        "--latents",
        str(folder / "latents"),
        "--cohort",
        str(folder / "clinical.csv"),
        "-o",
        str(tmp_path / "o"),
    ]
    code, text = invoke("fit", *words, "--repeats", "1", "--permutations", "0", *change)
    assert code == 2
    assert message in text
    assert "Traceback" not in text


def invoke(*arguments: str) -> tuple[int, str]:
    """As `run`, in this process: quick, for many cases."""
    from unittest.mock import patch

    from stylegan_surv.cli import main

    runner = CliRunner()
    with runner.isolation() as streams, patch.object(sys, "argv", ["stylegan-surv", *arguments]):
        with pytest.raises(SystemExit) as stop:
            main()
        output = streams[2].getvalue().decode()
    return int(stop.value.code or 0), output


def test_edit_needs_a_study_and_a_photo(folder: Path, tmp_path: Path) -> None:
    code, text = invoke(
        "edit", "--model", str(tmp_path), "--photo", str(folder / "clinical.csv"), "-o", "x.png"
    )
    assert code == 2
    assert "holds no direction" in text
    code, text = invoke("edit", "--model", str(tmp_path), "--photo", "none.jpg", "-o", "x.png")
    assert code == 2
    assert "none.jpg" in text


def test_edit_refuses_other_networks_than_the_study_had(folder: Path, tmp_path: Path) -> None:
    from stylegan_surv.attribute import HealthAttribute, save_attribute
    from stylegan_surv.inversion.origin import Network, Origin

    zeros = np.zeros((10, 256))
    origin = Origin(10, 256, Network("synthetic-64", "ab" * 32))
    save_attribute(HealthAttribute(zeros, None, None, zeros, 1.0, origin=origin), tmp_path)
    photo = folder / "clinical.csv"
    code, text = invoke(
        "edit", "--model", str(tmp_path), "--photo", str(photo), "-o", str(tmp_path / "x.png")
    )
    assert code == 2
    assert "abababababab" in text


def test_every_command_has_help() -> None:
    from stylegan_surv.cli import COMMANDS

    for name in COMMANDS:
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)


def test_importing_the_package_is_quick_and_torch_free() -> None:
    code = "import stylegan_surv, sys; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_empty_cohort_of_latents_is_an_error(folder: Path) -> None:
    table, latents = make()
    cohort = ss.read_cohort(table.assign(photo="other_" + table["photo"]), check_photos=False)
    with pytest.raises(InputError, match="index photographs"):
        ss.evaluate(latents, cohort, settings=QUICK)


def test_every_command_that_reads_a_table_knows_how_to_read_it() -> None:
    """Names, unit and origin of times can be said wherever a table is given."""
    from stylegan_surv.cli import COMMANDS

    def commands() -> Iterator[tuple[str, click.Command]]:
        for name in COMMANDS:
            command = cli.get_command(None, name)  # type: ignore[arg-type]
            assert command is not None
            yield name, command
            yield from getattr(command, "commands", {}).items()

    reads = {
        name: {option.name for option in command.params}
        for name, command in commands()
        if any({"--cohort", "table"} & {*option.opts, option.name} for option in command.params)
    }
    assert {"fit", "split", "embed", "align", "finetune", "train-encoder", "validate-external"} <= set(reads)
    for name, options in reads.items():
        times = (
            set() if name == "match" else {"time_unit", "time_origin"}
        )  # cases and controls have no follow-up
        assert {"columns", *times} <= options, name


def test_the_units_of_the_command_line_are_those_of_the_table() -> None:
    from stylegan_surv.cli._common import TIME_UNITS
    from stylegan_surv.cohort import DAYS

    assert set(TIME_UNITS) == set(DAYS)
