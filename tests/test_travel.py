"""Models that travel: clinical, photo and both on new patients, in the model's unit, without those it was fitted on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import stylegan_surv as ss
from stylegan_surv.cli import cli
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.study import predict, validate
from stylegan_surv.survival.design import ClinicalDesign

LAYERS, WIDTH = 2, 6
SETTINGS = ss.StudySettings(repeats=1, folds=3, permutations=0, n_boot=20, n_jobs=1, edited=0)


def patients(n: int, seed: int, first: int = 0, causes: bool = False) -> tuple[pd.DataFrame, ss.Latents]:
    """Months of follow-up; the first latent and age raise the hazard; with `causes` a second death, of the old."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(n, 1, WIDTH)) + 0.1 * rng.normal(size=(n, LAYERS, WIDTH))
    age = rng.normal(60, 10, n)
    death = 30 * rng.exponential(np.exp(-w[:, 0, 0] - 0.03 * (age - 60)))
    other = 40 * rng.exponential(np.exp(-0.08 * (age - 60))) if causes else np.full(n, np.inf)
    end = rng.uniform(20, 90, n)
    which = np.stack([death, other, end]).argmin(axis=0)
    names = [f"P{first + i:03d}" for i in range(n)]
    table = pd.DataFrame(
        {
            "patient_id": names, "photo": [f"{p}.jpg" for p in names],
            "time": np.minimum(np.minimum(death, other), end) + 0.1, "event": np.array([1, 2, 0])[which],
            "age": age, "site": rng.choice(["A", "B"], n),
        }
    )  # fmt: skip
    synthetic = {"kind": "synthetic"}
    about = {"generator": "test", "generator_sha256": "ab" * 32}
    about |= {"provenance": {"generator": synthetic, "encoder": synthetic}}
    return table, ss.Latents.from_arrays(w.astype(np.float32), names, names, about)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in months, and new patients whose table is in months or in years; ten of them are old ones."""
    root = tmp_path_factory.mktemp("travel")
    table, latents = patients(150, 0)
    cohort = ss.read_cohort(table, time_unit="months", time_origin="diagnosis", check_photos=False)
    study = ss.evaluate(latents, cohort, ["cox-ridge"], ["age"], SETTINGS)
    study.save(root / "study")
    new, fresh = patients(150, 1, first=140)
    new.to_csv(root / "months.csv", index=False)
    new.assign(time=new["time"] / 12).to_csv(root / "years.csv", index=False)
    fresh.save(root / "latents")
    return root


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if isinstance(done.exception, InputError):  # `stylegan_surv.cli.main` prints it and exits with 2
        return 2, done.exception.for_command_line()
    return done.exit_code, done.output


def test_three_models_are_validated_side_by_side_in_the_models_unit(root: Path) -> None:
    words = (
        "validate-external",
        "--model",
        root / "study/model",
        "--latents",
        root / "latents",
        "--boot",
        20,
    )
    code, text = run(
        *words, "--cohort", root / "months.csv", "-o", root / "m.json", "--strata", "site", "--recalibrate"
    )
    assert code == 0, text
    assert "left out: 10 patients whom the models were fitted on" in text
    assert "140 patients" in text
    assert "times in months" in text
    for name in ("clinical ", "photo ", "both ", "both - clinical", "photo recalibrated"):
        assert name in text
    assert text.count("stratified_c") >= 4
    found = json.loads((root / "m.json").read_text())
    c = {name: found["models"][name]["harrell_c"]["estimate"] for name in ("clinical", "photo", "both")}
    assert min(c["both"], c["photo"]) > c["clinical"] + 0.05
    assert found["trained_on"] == 10
    code, text = run(
        *words, "--cohort", root / "years.csv", "-o", root / "y.json", "--strata", "site", "--recalibrate",
        "--time-unit", "years",
    )  # fmt: skip
    assert code == 0, text
    again = json.loads((root / "y.json").read_text())
    assert again["models"].keys() == found["models"].keys()
    for name, metrics in found["models"].items():
        for metric, value in metrics.items():
            other = again["models"][name][metric]["estimate"]
            assert other == pytest.approx(value["estimate"], rel=1e-6, abs=1e-9), (name, metric)


def test_predictions_need_no_follow_up_and_are_those_of_the_fitted_columns(root: Path) -> None:
    table = pd.read_csv(root / "months.csv")
    table[["patient_id", "photo", "age"]].to_csv(root / "new.csv", index=False)
    for which in ("clinical", "both"):
        code, text = run(
            "predict", "--model", root / "study/model", "--latents", root / "latents", "--which", which,
            "--cohort", root / "new.csv", "-o", root / f"{which}.csv",
        )  # fmt: skip
        assert code == 0, text
        assert "t in months" in text
    clinical = pd.read_csv(root / "clinical.csv")
    fitted, _ = patients(150, 0)
    scaled = ClinicalDesign().fit(fitted[["age"]]).transform(table[["age"]])[:, 0]
    slope = np.polyfit(scaled, clinical["risk"], 1)
    np.testing.assert_allclose(np.polyval(slope, scaled), clinical["risk"], atol=1e-9)
    assert slope[0] > 0.1
    code, text = run(
        "predict", "--model", root / "study/model", "--latents", root / "latents", "--which", "both", "-o",
        root / "x.csv",
    )  # fmt: skip
    assert code == 2
    assert "--cohort clinical.csv" in text


def test_training_patients_and_other_networks_are_refused(root: Path) -> None:
    table, latents = patients(150, 0)
    cohort = ss.read_cohort(table, time_unit="months", check_photos=False)
    with pytest.raises(Refused, match="all 150 patients of the table took part"):
        validate(root / "study/model", latents, cohort)
    new, fresh = patients(60, 2, first=500)
    other = ss.Latents.from_arrays(
        fresh.w_plus, fresh.ids, fresh.patient_ids, {**fresh.metadata, "generator_sha256": "cd" * 32}
    )
    cohort = ss.read_cohort(new, time_unit="months", check_photos=False)
    with pytest.raises(Refused, match="generator_sha256"):
        validate(root / "study/model", other, cohort)
    text = (root / "study/model/card.json").read_text()
    assert "P000" not in text
    assert json.loads(text)["time_origin"] == "diagnosis"


def test_a_study_without_clinical_columns_has_one_model_and_says_so(tmp_path: Path) -> None:
    table, latents = patients(80, 3)
    cohort = ss.read_cohort(table, time_unit="months", check_photos=False)
    ss.evaluate(latents, cohort, ["cox-ridge"], [], SETTINGS).save(tmp_path / "study")
    with pytest.raises(InputError, match="no model 'both', only photo"):
        predict(tmp_path / "study/model", latents, "both", cohort)


def test_competing_deaths_from_fit_to_external_validation(tmp_path: Path) -> None:
    table, latents = patients(200, 0, causes=True)
    table.to_csv(tmp_path / "t.csv", index=False)
    latents.save(tmp_path / "l")
    fit = (
        "fit", "--latents", tmp_path / "l", "--cohort", tmp_path / "t.csv", "-o", tmp_path / "s", "--clinical",
        "age", "--repeats", 1, "--permutations", 0, "--boot", 20, "--edited", 0, "--jobs", 1, "--time-unit",
        "months",
    )  # fmt: skip
    code, text = run(*fit)
    assert code == 2
    assert "--cause 1" in text
    code, text = run(*fit, "--cause", 1)
    assert code == 0, text
    assert "died of other causes" in (tmp_path / "s/report.html").read_text()
    new, fresh = patients(200, 1, first=300, causes=True)
    cohort = ss.read_cohort(new, time_unit="months", cause=1, check_photos=False)
    found = validate(tmp_path / "s/model", fresh, cohort, n_boot=20)
    both = found.found.metrics.models["both"]
    assert both["uno_c"].estimate > 0.6
    assert 0.6 < both["oe"].estimate < 1.6
    risks = predict(tmp_path / "s/model", fresh, "both", cohort).filter(like="S(").to_numpy()
    assert (np.diff(risks, axis=1) <= 1e-12).all()
    with pytest.raises(InputError, match="2 causes of death apart"):
        validate(
            tmp_path / "s/model",
            fresh,
            ss.read_cohort(new.assign(event=new["event"] == 1), check_photos=False),
        )
