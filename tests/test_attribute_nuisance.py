"""Nuisance directions: found where they are planted, judged on fresh samples, kept in the statistics file."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stylegan_surv.attribute.nuisance import (
    PHOTOGRAPHIC,
    Nuisance,
    beside_nuisance,
    find_nuisance,
    load_nuisance,
    pack,
    ridge,
)
from stylegan_surv.errors import InputError

W_DIM, NUM_WS, SIDE = 6, 4, 32


class Walls:
    """Draws a grey head (luma 0.5) before a wall: the first coordinate of w is its brightness."""

    config = SimpleNamespace(z_dim=W_DIM, w_dim=W_DIM, num_ws=NUM_WS)

    @staticmethod
    def mapping(z: torch.Tensor) -> torch.Tensor:
        return z[:, None].expand(-1, NUM_WS, -1)

    @staticmethod
    def synthesis(w_plus: torch.Tensor) -> torch.Tensor:
        at = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
        disc = ((at[:, None] / 0.6) ** 2 + (at[None, :] / 0.44) ** 2 < 1).float()
        wall = (0.3 * w_plus[:, 0, 0]).clamp(-1, 1)[:, None, None, None]
        return (wall * (1 - disc)).expand(-1, 3, -1, -1)


def test_the_background_is_found_where_it_was_planted():
    found = {k.name: k for k in find_nuisance(Walls(), n=200, fresh=50, facial=False)}
    wall = found["background"]
    assert set(found) <= set(PHOTOGRAPHIC)
    assert wall.direction[0] / np.linalg.norm(wall.direction) > 0.97
    assert wall.r2 > 0.98
    assert wall.change["background"] == pytest.approx(1, abs=0.05)
    assert "brightness" not in found  # of the face, which no latent changes


def test_ridge_without_noise_is_least_squares():
    rng = np.random.default_rng(0)
    x, beta = rng.standard_normal((50, 4)) + 3, np.array([1.0, -2.0, 0.0, 0.5])
    mean, found = ridge(x, x @ beta + 7)
    assert np.allclose(mean, x.mean(axis=0))
    assert np.allclose(found, beta, atol=1e-3)


def test_directions_survive_the_file(tmp_path):
    found = find_nuisance(Walls(), n=60, fresh=20, facial=False)
    tensors, facts = pack(found)
    save_file({"w_mean": torch.zeros(W_DIM), **tensors}, tmp_path / "x.stats.safetensors", metadata=facts)
    read = load_nuisance(tmp_path / "x.stats.safetensors")
    assert [(k.name, k.r2, k.change) for k in read] == [(k.name, k.r2, k.change) for k in found]
    assert np.allclose(read[0].direction, found[0].direction, atol=1e-6)
    with pytest.raises(InputError, match="no statistics"):
        load_nuisance("nobody")


def test_a_risk_that_is_the_wall_stands_out_and_an_unrelated_one_does_not():
    rng = np.random.default_rng(2)
    w = rng.standard_normal((300, W_DIM)) * np.array(
        [1, 3, 1, 1, 1, 1]
    )  # one wide direction: large chance cosines
    x, wall = np.repeat(w[:, None], NUM_WS, axis=1).reshape(300, -1), Nuisance("wall", np.eye(W_DIM)[0], 1.0)
    wide = Nuisance("wide", np.eye(W_DIM)[1], 1.0)
    told = beside_nuisance(x, w[:, 0], NUM_WS, [wall, wide])
    assert told["wall"]["cosine"] > 0.8 > told["wall"]["null_95"]
    assert told["wide"]["null_95"] > told["wall"]["null_95"]
    unrelated = beside_nuisance(x, w[:, 3], NUM_WS, [wall])["wall"]
    assert abs(unrelated["cosine"]) < unrelated["null_95"] + 0.2
