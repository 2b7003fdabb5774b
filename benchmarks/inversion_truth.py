"""What a latent says of the face: recovered latents against planted ones, for several ways of inversion.

``python -m benchmarks.inversion_truth [--n 200] [--encoder FILE] [--json]``. Samples of the generator are photographed
by the simulated camera and inverted; ridge regression (eight folds, its penalty by generalised cross-validation within
each) predicts the 20 leading principal components of the true w, each scaled to unit variance, from the recovered W+.
R² is what a survival model can hope for; LPIPS says how well the photograph is copied.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from cuda_ops import tune_allocator
from stylegan_surv import embed, load_generator
from stylegan_surv.inversion import Schedule
from stylegan_surv.inversion.inverter import METHODS
from stylegan_surv.inversion.train_encoder import photographs

TRUNCATION, COMPONENTS, FOLDS = 0.7, 20, 8
PENALTIES = 10.0 ** np.arange(-2, 2.1, 0.5)  # times the mean diagonal of the Gram matrix

HYBRID = METHODS["hybrid"] or Schedule()
WAYS: dict[str, dict[str, Any]] = {
    "encoder": {"method": "encoder"},
    "encoder, 1 refinement": {"method": "encoder", "passes": 1},
    "12 steps": {"schedule": replace(HYBRID, steps=12)},
    "penalty 0": {"schedule": replace(HYBRID, penalty=0)},
    "penalty 1": {"schedule": replace(HYBRID, penalty=1)},
    "penalty 10": {"schedule": replace(HYBRID, penalty=10)},
    "face mask": {"schedule": replace(HYBRID, face_mask=True)},
    "80 steps of Adam": {"schedule": replace(HYBRID, optimizer="adam", steps=80)},
    "hybrid (default)": {},
}
Array = NDArray[np.float64]


def cohort(generator: Any, n: int, seed: int) -> tuple[Array, torch.Tensor]:
    """Scaled principal components [n, 20] of the true w, and the photographs [n, 3, R, R]."""
    rng = torch.Generator().manual_seed(seed)
    draw = [
        generator.mapping(
            torch.randn(size, generator.config.z_dim, generator=rng), truncation_psi=TRUNCATION
        )[:, 0]
        for size in (20_000, n)
    ]
    population, w = (part.numpy().astype(float) for part in draw)
    values, vectors = np.linalg.eigh(np.cov(population, rowvar=False))
    whiten = vectors[:, ::-1][:, :COMPONENTS] / np.sqrt(values[::-1][:COMPONENTS])
    styles = draw[1][:, None].expand(-1, generator.config.num_ws, -1)
    with torch.no_grad():
        faces = torch.cat([generator.synthesis(part) for part in styles.split(50)]).clamp(-1, 1)
    return (w - population.mean(axis=0)) @ whiten, photographs(faces, 1.0, seed, 0)


def explained(x: Array, y: Array) -> Array:
    """Out-of-fold R² [20] of ridge regressions of ``y`` [n, 20] on ``x`` [n, p]."""
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    predicted = np.zeros_like(y)
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        mean, a = y[train].mean(axis=0), x[train] - x[train].mean(axis=0)
        values, vectors = np.linalg.eigh(a @ a.T)
        values = values.clip(0)
        rotated = vectors.T @ (y[train] - mean)

        def score(penalty: float, values: Array = values, rotated: Array = rotated) -> float:
            shrink = penalty / (values + penalty)
            return float(((shrink[:, None] * rotated) ** 2).sum() / shrink.sum() ** 2)

        best = min(PENALTIES * values.mean(), key=score)
        weights = a.T @ (vectors @ (rotated / (values + best)[:, None]))
        predicted[test] = (x[test] - x[train].mean(axis=0)) @ weights + mean
    unexplained: Array = ((predicted - y) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return 1 - unexplained


@click.command()
@click.option("--n", default=200, show_default=True)
@click.option("--seed", default=77, show_default=True)
@click.option("--generator", "name", default="synthetic-64", show_default=True)
@click.option("--encoder", default=None)
@click.option("--ways", default=None, help="Names, separated by ';'. Default: all.")
@click.option("--json", "as_json", is_flag=True)
def main(n: int, seed: int, name: str, encoder: str | None, ways: str | None, as_json: bool) -> None:
    """R² of the true latent and LPIPS of the photograph, by way of inversion."""
    tune_allocator()
    generator = load_generator(name)
    truth, photos = cohort(generator, n, seed)
    table = {}
    for way in ways.split(";") if ways else WAYS:
        latents = embed(photos, generator=generator, encoder=encoder, **WAYS[way])
        r2 = explained(latents.w_plus.reshape(n, -1).astype(float), truth)
        quality = {key: float(latents.frame[key].mean()) for key in ("lpips", "mse", "steps")}
        table[way] = {"r2": float(r2.mean()), "r2_first_5": float(r2[:5].mean()), **quality}
        if not as_json:
            print(
                f"{way:36s}" + "  ".join(f"{key} {value:.3f}" for key, value in table[way].items()),
                flush=True,
            )
    if as_json:
        print(json.dumps({"n": n, "encoder": encoder, **table}))


if __name__ == "__main__":
    main()
