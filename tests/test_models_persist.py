"""Saved models come back identical, and a file with foreign types is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

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
    assert card["n_features"] == 40
    assert card["cohort"] == {"patients": 80}
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
    with pytest.raises(Refused, match="numpy"):
        load_model(tmp_path)


def test_no_model_and_damaged_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model\.skops"):
        load_model(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a readable skops file"):
        load_model(tmp_path)
