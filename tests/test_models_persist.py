"""Saved models come back identical, and a file with foreign types is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import skops.io
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from stylegan_surv import survival
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.persist import load_model, save_model
from stylegan_surv.survival.engines.registry import make_model


def _data(n: int = 80, p: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p)).astype(np.float32)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = rng.random(n) < 0.7, rng.exponential(np.exp(-X[:, 0]))
    return X, y


QUICK = {
    "cox-ridge": {},
    "cox-ridge-groups": {"alphas": 4},
    "rsf": {"n_estimators": 5},
    "extra-trees": {"n_estimators": 5},
}


@pytest.mark.parametrize("name", QUICK)
def test_a_reloaded_model_predicts_identically(name: str, tmp_path: Path) -> None:
    X, y = _data()
    model = make_model(name, 10, 4).set_params(**QUICK[name]).fit(X, y)
    save_model(model, tmp_path / "model", card={"cohort": {"patients": 80}})
    again, card = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    times = [0.5, 1.0]
    np.testing.assert_array_equal(
        again.predict_survival_function(X, times), model.predict_survival_function(X, times)
    )
    assert card.n_features == 40
    assert card.model_dump()["cohort"] == {"patients": 80}
    assert "80" in (tmp_path / "model" / "card.md").read_text()


def test_a_pipeline_with_scikit_learn_steps_is_saved(tmp_path: Path) -> None:
    X, y = _data()
    model = make_pipeline(StandardScaler(), CoxRidge(alphas=(10.0,))).fit(X, y)
    again, _ = load_model(save_model(model, tmp_path))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_foreign_type_is_refused_when_saved_and_when_read(tmp_path: Path) -> None:
    X, y = _data()
    foreign = make_pipeline(FunctionTransformer(np.save), CoxRidge(alphas=(10.0,)))
    foreign.steps[-1][1].fit(X, y)
    with pytest.raises(Refused, match="numpy"):
        save_model(foreign, tmp_path)
    assert not list(tmp_path.glob("*.skops*"))
    skops.io.dump(foreign, tmp_path / "model.skops")
    (tmp_path / "card.json").write_text('{"format": 1}')
    with pytest.raises(Refused, match="numpy"):
        load_model(tmp_path)


def test_saved_models_carry_public_paths_and_survive_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class is found by its public name, wherever its file lies."""
    X, y = _data()
    model = make_pipeline(StandardScaler(), CoxRidge(alphas=(10.0,))).fit(X, y)
    save_model(model, tmp_path)
    assert skops.io.get_untrusted_types(file=tmp_path / "model.skops") == ["stylegan_surv.survival.CoxRidge"]

    elsewhere = ModuleType("stylegan_surv.survival.elsewhere")
    moved = type("CoxRidge", (CoxRidge,), {"__module__": "stylegan_surv.survival"})
    monkeypatch.setattr(elsewhere, "CoxRidge", moved, raising=False)
    monkeypatch.setitem(sys.modules, elsewhere.__name__, elsewhere)
    monkeypatch.setitem(survival._WHERE, "CoxRidge", "elsewhere")
    again, _ = load_model(tmp_path)
    assert type(again.steps[-1][1]) is moved
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "damaged"),
        ("{", "damaged"),
        ('{"format": 0}', "has the format 0; expected 1. Fit"),
        ('{"n_features": 3}', "has the format None"),
        ('{"format": 1, "n_features": -3}', "n_features is -3 .Input should be greater"),
        ('{"format": 1, "horizons": [0]}', r"horizons\.0 is 0 .Input should be greater than 0"),
        ('{"format": 1, "horizons": "soon"}', "horizons is .soon. .Input should be a valid list"),
        (json.dumps({"format": 1, "horizons": [1.0] * 3_000_000}), "at most 1000 items"),
    ],
)
def test_a_card_that_cannot_be_right_is_refused_in_words(text: str, message: str, tmp_path: Path) -> None:
    X, y = _data()
    save_model(CoxRidge(alphas=(10.0,)).fit(X, y), tmp_path)
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_no_model_and_damaged_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model\.skops"):
        load_model(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"no readable card\.json"):
        load_model(tmp_path)
    (tmp_path / "card.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match="not a readable skops file"):
        load_model(tmp_path)
