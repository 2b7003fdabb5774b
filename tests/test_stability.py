"""How stable a risk is: edits of a photograph, repeated ones, other seeds, reconstructions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stylegan_surv as ss
from stylegan_surv.audit.judged import Judged
from stylegan_surv.audit.stability import (
    Again,
    FoldRisk,
    embedded_again,
    fold_risk,
    one_each,
    repeated_photographs,
    seeds,
)
from stylegan_surv.faces import Chips
from stylegan_surv.faces.edits import EDITS, brighter, darker, no_clothing, other_background, rotated
from stylegan_surv.inversion import Schedule
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.nested import make_folds, nested_cv

SIDE = 64
CHEEKS = np.s_[30:50, 24:40]  # within the face of an aligned chip


def chip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 180, (SIDE, SIDE, 3), np.uint8)


def test_edits_change_what_they_say_and_leave_the_face() -> None:
    one, other = chip(0), chip(1)
    swapped = other_background(one, other)
    np.testing.assert_array_equal(swapped[CHEEKS], one[CHEEKS])
    np.testing.assert_array_equal(swapped[:4, :4], other[:4, :4])
    covered = no_clothing(one)
    np.testing.assert_array_equal(covered[CHEEKS], one[CHEEKS])
    assert (covered[-1] == 128).all()
    np.testing.assert_allclose(darker(brighter(one)), one, atol=1)
    assert not np.array_equal(rotated(one), one)
    for edit in EDITS.values():
        found = edit(one, other)
        assert found.shape == one.shape
        assert found.dtype == np.uint8


def cohort_of(n: int = 90, seed: int = 0) -> tuple[np.ndarray, Outcome]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 12)).astype(np.float32)
    death, end = rng.exponential(np.exp(-x[:, 0])), rng.exponential(2.0, n)
    return x, Outcome([f"p{i:02d}" for i in range(n)], np.minimum(death, end), death <= end)


@pytest.mark.parametrize("model", ["cox-ridge", "cox-ridge-groups"])
def test_a_photograph_has_the_risk_that_its_patient_had_out_of_fold(model: str) -> None:
    x, outcome = cohort_of()
    shape = (6, 2)
    fold = make_folds(outcome, 3)
    found = nested_cv([model], x, outcome, folds=fold, num_ws=shape[0], w_dim=shape[1])
    judged = Judged(
        x, shape, outcome, table=pd.DataFrame(), oof=found.frame, fold=fold[0], chosen=found.chosen, clinical=(),
        strata=None, quality=None, photos=pd.DataFrame(), chips=None, recognition=None,
    )  # fmt: skip
    risk_of = fold_risk(model, judged)
    expected = found.model("photo").set_index("patient_id")["risk"].loc[outcome.patient_id].to_numpy()
    groups = pd.Series(expected).groupby(fold[0])
    z = (expected - groups.transform("mean")) / groups.transform("std", ddof=0)
    np.testing.assert_allclose(risk_of(x, list(outcome.patient_id)), z, atol=1e-4)
    assert np.isnan(risk_of(x[:1], ["a stranger"]))


def test_repeats_that_agree_have_an_icc_of_one_and_noise_has_none() -> None:
    x, outcome = cohort_of()
    rng = np.random.default_rng(1)

    def icc(scores: list[np.ndarray]) -> float:
        rows = {"patient_id": outcome.patient_id, "fold": np.arange(len(outcome)) % 3, "model": "photo"}
        oof = pd.concat([pd.DataFrame({**rows, "repeat": r, "risk": s}) for r, s in enumerate(scores)])
        found = seeds(oof, outcome)
        assert found is not None
        return found.icc

    assert icc([x[:, 0], 3 * x[:, 0] + 1]) == pytest.approx(1)
    assert icc(list(rng.normal(size=(3, len(outcome))))) < 0.3
    assert (
        seeds(
            pd.DataFrame({"patient_id": ["p00"], "repeat": 0, "fold": 0, "model": "photo", "risk": 1.0}),
            outcome,
        )
        is None
    )


class Linear:
    def __init__(self, w: np.ndarray) -> None:
        self.w = w

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x @ self.w


def one_model(model: Any, names: list[str], risk: np.ndarray) -> FoldRisk:
    return FoldRisk({0: model}, dict.fromkeys(names, 0), {0: float(risk.mean())}, {0: float(risk.std())})


def test_repeated_photographs_of_a_patient() -> None:
    rng = np.random.default_rng(2)
    patient = rng.normal(size=(40, 1, 1, 4)) + np.zeros((1, 2, 1, 1))
    w = (patient + 0.1 * rng.normal(size=patient.shape)).reshape(80, 1, 4).astype(np.float32)
    who = [f"p{i:02d}" for i in range(40) for _ in range(2)]
    latents = ss.Latents.from_arrays(w, [f"f{i}" for i in range(80)], who, {})
    model = Linear(np.array([1.0, 0, 0, 0]))
    found = repeated_photographs(one_model(model, who, w[:, 0, 0]), latents)
    assert found is not None
    assert found.icc == pytest.approx(1 / 1.01, abs=0.02)
    assert found.subjects == 40
    single = latents.select(list(latents.ids)[::2])
    assert repeated_photographs(one_model(model, who, w[:, 0, 0]), single) is None
    assert len(one_each(latents, who, 100, 0)) == 40


@pytest.fixture(scope="module")
def drawn() -> tuple[Any, np.ndarray, list[str], dict[str, Any]]:
    """The bundled networks, 24 latents, names and what a dataset of them would say of itself."""
    import torch

    from stylegan_surv.inversion.inverter import Inverter, networks, plan

    settings = plan("encoder", None, None)
    generator, encoder = networks("synthetic-64", None, settings)
    with torch.no_grad():
        z = torch.from_numpy(np.random.default_rng(0).standard_normal((24, generator.config.z_dim))).float()
        w_plus = generator.mapping(z, truncation_psi=0.7).numpy()
    about = Inverter(generator, encoder, settings).metadata()
    return generator, w_plus, [f"p{k:02d}" for k in range(24)], about


def test_a_visible_score_survives_and_a_hidden_one_does_not(drawn: Any, tmp_path: Path) -> None:
    """A score that the encoder can read from the picture survives; one that no picture holds does not."""
    _, w_plus, names, about = drawn
    latents = ss.Latents.from_arrays(w_plus, names, names, about)
    again = Again.of(latents)
    assert again is not None
    flat = w_plus.reshape(24, -1)
    main = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][0]
    pictures = [np.asarray(p.permute(1, 2, 0).add(1).mul(127.5).round().byte()) for p in again.draw(w_plus)]
    chips = Chips.create(tmp_path / "chips", pictures, names)
    seen = one_model(Linear(main), names, flat @ main)
    reconstruction, edits = embedded_again(seen, latents, again, chips, number=32)
    assert reconstruction is not None
    assert reconstruction.photographs == 24
    assert reconstruction.correlation > 0.5
    assert edits is not None
    assert set(edits) == set(EDITS)
    assert edits["JPEG, quality 30"].correlation > 0.4

    noise = 1e-4 * np.random.default_rng(1).normal(size=flat.shape).astype(np.float32)  # changes no picture

    class Hidden:
        def predict(self, x: np.ndarray) -> np.ndarray:
            return (x - flat) @ noise[0] * 1e6

    shaken = ss.Latents.from_arrays(w_plus + noise.reshape(w_plus.shape), names, names, about)
    blind = one_model(Hidden(), names, Hidden().predict(flat + noise))
    reconstruction, edits = embedded_again(blind, shaken, again, number=32)
    assert reconstruction is not None
    assert reconstruction.icc < 0.3
    assert edits is None


def test_networks_that_are_not_those_of_the_latents_are_not_used(drawn: Any) -> None:
    _, w_plus, names, about = drawn
    for changed in ({"generator": None}, {"generator_sha256": "ab" * 32}, {"generator": "unknown-64"}):
        assert Again.of(ss.Latents.from_arrays(w_plus, names, names, {**about, **changed})) is None
    went_on = {
        **about["settings"],
        "schedule": asdict(Schedule(start="previous")),
    }  # nor are earlier latents guessed
    assert Again.of(ss.Latents.from_arrays(w_plus, names, names, {**about, "settings": went_on})) is None
