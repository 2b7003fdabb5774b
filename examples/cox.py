"""Cox regression on latents without photographs: a path, a cross-validated penalty, nested cross-validation."""

from __future__ import annotations

import tempfile

import numpy as np
import pandas as pd

from stylegan_surv.survival import (
    CoxRidge,
    Outcome,
    layer_groups,
    make_model,
    nested_cv,
)
from stylegan_surv.survival.engines.persist import load_model, save_model
from stylegan_surv.survival.metrics.table import pooled_concordance

NUM_WS, W_DIM, N = 10, 64, 400

# W+ of 400 invented patients: twenty factors that all layers share, and noise
rng = np.random.default_rng(0)
factors = rng.normal(size=(N, 20))
X = (factors @ rng.normal(size=(20, NUM_WS * W_DIM)) + rng.normal(size=(N, NUM_WS * W_DIM))).astype(
    np.float32
)
age = rng.normal(62, 9, N)
death = 900 * rng.exponential(np.exp(-0.8 * factors[:, 0] - 0.05 * (age - 62)))
censored = rng.exponential(1500, N)
outcome = Outcome(
    np.array([f"patient-{i}" for i in range(N)]), np.ceil(np.minimum(death, censored)), death <= censored
)

# one model: the path of penalties, the one that cross-validation takes, survival at one and two years
model = CoxRidge(cv=5).fit(X, outcome.y)
print(f"penalty {model.alpha_:.0f} of {model.alphas_.round().astype(int).tolist()}")
print("S(1 year), S(2 years):", model.predict_survival_function(X[:2], [365, 730]).round(2).tolist())

# age beside the latents, unpenalised; a penalty for coarse, middle and fine layers each
both = CoxRidge(cv=5, unpenalized=[X.shape[1]]).fit(np.column_stack([X, age]), outcome.y)
print(f"hazard ratio of ten years, the face given: {np.exp(10 * both.coef_[-1]):.2f}")
groups = CoxRidge(cv=5, penalty_groups=layer_groups(NUM_WS, W_DIM)).fit(X, outcome.y)
print("penalties by layer:", {name: round(alpha) for name, alpha in groups.alpha_.items()})

# what may be believed: every patient scored by models that had not seen him
found = nested_cv(
    {
        "cox-ridge": make_model("cox-ridge"),
        "extra-trees": make_model("extra-trees").set_params(n_estimators=50),
    },
    X,
    outcome,
    clinical=pd.DataFrame({"age": age}),
)
for name in found.models:
    print(f"{name:18s} C = {pooled_concordance(found.model(name), outcome).estimate:.3f}")

# saved without pickle, and back
with tempfile.TemporaryDirectory() as folder:
    save_model(model, folder, card={"cohort": "invented"})
    again, card = load_model(folder)
    assert np.array_equal(again.predict(X), model.predict(X))
    print(card.model["class"], "of", card.versions["stylegan-surv"])
