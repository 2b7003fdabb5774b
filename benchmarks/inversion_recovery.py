"""Do latents come back? Faces drawn from known w, inverted as they are, without the simulated camera.

``python -m benchmarks.inversion_recovery [--n 48] [--generator G] [--encoder E] [--ways …] [--json]`` prints, for every
way of inversion: the relative error ‖ŵ − w‖ / ‖w − w̄‖ of W+ and of its mean over layers, LPIPS, and the correlation of
the risk from recovered latents with the risk from the true ones, for models that were fitted to true latents: ridge
Cox on a simulated cohort, and the cohorts' planted scores (directions drawn evenly in the 20 leading components).
"""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from cuda_ops import tune_allocator
from stylegan_surv import embed, load_generator
from stylegan_surv.inversion import Schedule
from stylegan_surv.simulate import outcomes, plan, sample_w
from stylegan_surv.survival import CoxRidge

PATIENTS, EVENTS, COHORTS = 1000, 0.6, 20
WAYS: dict[str, dict[str, Any]] = {
    "encoder": {"method": "encoder"},
    "hybrid (default)": {},
    "hybrid, 100 steps, penalty 1": {"schedule": Schedule(steps=100, penalty=1.0)},
    "hybrid, 100 steps, penalty 0": {"schedule": Schedule(steps=100, penalty=0.0)},
    "W, 40 steps": {"schedule": {"space": "w", "penalty": 0.0}},
    "W, 100 steps": {"schedule": {"space": "w", "steps": 100, "penalty": 0.0}},
    "W, 200 steps, to their end": {"schedule": {"space": "w", "steps": 200, "penalty": 0.0, "target": None}},
}
Array = NDArray[np.float64]


def models(generator: Any, psi: float) -> tuple[Array, Array]:
    """Coefficients on w [w_dim, cohorts]: of ridge Cox fitted to true latents, and planted."""
    fitted, planted = [], []
    for seed in range(COHORTS):
        truth = plan(generator, seed, psi)
        w = sample_w(generator, PATIENTS, 1000 + seed, psi).astype(float)
        score = (w - truth.mean) @ truth.hazard
        time, event = outcomes(score, EVENTS, np.random.default_rng(seed))
        y = np.array(list(zip(event, time)), dtype=[("event", bool), ("time", float)])
        ridge = CoxRidge(cv=5).fit(w, y)
        fitted.append(ridge.coef_)
        planted.append(truth.hazard)
    return np.stack(fitted, 1), np.stack(planted, 1)


def correlations(w: Array, recovered: Array, beta: Array) -> Array:
    """Correlation of risks [cohorts]; W+ counts by its mean over layers, as the true layers share one w."""
    a, b = w @ beta, recovered @ beta
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T)])


def measures(w: Array, mean: Array, w_plus: Array, betas: tuple[Array, Array]) -> dict[str, float]:
    """Relative errors, and the mean and worst correlation of risks."""
    size = np.linalg.norm(w - mean, axis=1)
    layers = np.linalg.norm(w_plus - w[:, None], axis=(1, 2)) / np.sqrt(w_plus.shape[1])
    found = w_plus.mean(axis=1)
    row = {"error_w_plus": float(np.median(layers / size))}
    row["error_w"] = float(np.median(np.linalg.norm(found - w, axis=1) / size))
    for name, beta in zip(("fitted", "planted"), betas):
        r = correlations(w, found, beta)
        row |= {f"risk_r_{name}": float(r.mean()), f"risk_r_{name}_worst": float(r.min())}
    return row


@click.command()
@click.option("--n", default=48, show_default=True)
@click.option("--psi", default=0.7, show_default=True, help="Truncation of the faces and the cohorts.")
@click.option("--seed", default=11, show_default=True)
@click.option("--generator", "name", default="synthetic-64", show_default=True)
@click.option("--encoder", default=None)
@click.option("--ways", default=";".join(WAYS), help="Names, separated by ';'. Default: all.")
@click.option("--json", "as_json", is_flag=True)
def main(n: int, psi: float, seed: int, name: str, encoder: str | None, ways: str, as_json: bool) -> None:
    """Errors of recovered latents, by way of inversion."""
    tune_allocator()
    generator = load_generator(name)
    betas = models(generator, psi)
    w = sample_w(generator, n, seed, psi)
    mean = sample_w(generator, 20_000, seed + 1, psi).mean(axis=0)
    with torch.no_grad():
        styles = torch.from_numpy(w)[:, None].expand(-1, generator.config.num_ws, -1)
        faces = torch.cat([generator.synthesis(part) for part in styles.split(16)]).clamp(-1, 1)
    table = {}
    for way in ways.split(";"):
        latents = embed(faces, generator=generator, encoder=encoder, **WAYS[way])
        table[way] = measures(w.astype(float), mean, latents.w_plus.astype(float), betas)
        table[way] |= {key: float(latents.frame[key].mean()) for key in ("lpips", "steps")}
        if not as_json:
            print(
                f"{way:30s}" + "  ".join(f"{key} {value:.3f}" for key, value in table[way].items()),
                flush=True,
            )
    if as_json:
        print(json.dumps({"n": n, "psi": psi, "ways": table}))


if __name__ == "__main__":
    main()
