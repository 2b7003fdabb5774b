"""The bundled pair of 128 px: the pair of 64 px lies beneath it, and the layers of the new block stay out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import stylegan_surv as ss
from stylegan_surv.gan import Encoder, Generator, load_encoder, load_generator
from stylegan_surv.gan.networks.resampling import reduced
from stylegan_surv.inversion import EmbedSettings, Latents, Pictures, Schedule, embed

ROWS = 10  # layers up to 64 px


@pytest.fixture(scope="module")
def pairs() -> tuple[Generator, Encoder, Generator, Encoder]:
    small, large = "synthetic-64", "synthetic-128"
    return load_generator(small), load_encoder(small), load_generator(large), load_encoder(large)


@pytest.fixture(scope="module")
def faces(pairs: tuple[Generator, Encoder, Generator, Encoder]) -> torch.Tensor:
    large = pairs[2]
    z = torch.randn(4, large.config.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return large(z, truncation_psi=0.6).clamp(-1, 1)


def test_what_lies_beneath_is_the_small_pair(pairs: tuple[Generator, Encoder, Generator, Encoder]) -> None:
    small, reader, large, grown = pairs
    assert (large.config.resolution, large.config.num_ws, grown.shape.resolution) == (128, 12, 64)
    held = large.state_dict()
    assert all(torch.equal(held[name], value) for name, value in small.state_dict().items())
    new = grown.state_dict()
    assert all(torch.equal(new[name][: len(value)], value) for name, value in reader.state_dict().items())


def test_codes_are_those_of_the_small_encoder_and_the_last_rows_repeat_w(
    pairs: tuple[Generator, Encoder, Generator, Encoder], faces: torch.Tensor
) -> None:
    _, reader, _, grown = pairs
    with torch.no_grad():
        codes, before = grown(faces), reader(reduced(faces, 64))
        w, _ = grown.split(faces)
    assert torch.allclose(codes[:, :ROWS], before, atol=1e-5)
    assert torch.allclose(codes[:, ROWS:], w[:, None].expand(-1, 2, -1), atol=1e-5)


def test_latents_know_which_layers_a_model_reads(faces: torch.Tensor, tmp_path: Path) -> None:
    quick = EmbedSettings(batch=2, schedule=Schedule(steps=3))
    for settings in (EmbedSettings("encoder", batch=2), quick):
        out = tmp_path / settings.method
        latents = embed(Pictures(faces, list("abcd")), generator="synthetic-128", out=out, settings=settings)
        assert (latents.w_plus.shape[1], latents.codes.shape[1]) == (12, ROWS)
        again = Latents.open(out)
        assert again.origin.survival_ws == ROWS
        assert np.array_equal(again.codes, latents.w_plus[:, :ROWS])
    first = Latents.open(tmp_path / "encoder")
    assert np.array_equal(
        latents.w_plus[:, ROWS:], first.w_plus[:, ROWS:]
    )  # the projector leaves them where they were
    assert not np.allclose(latents.codes, first.codes)


def test_a_study_reads_them_only_and_its_attribute_moves_them_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(60)]
    w_plus = rng.normal(size=(60, 12, 4)).astype(np.float32)
    latents = Latents.from_arrays(w_plus, names, names, {"survival_ws": ROWS})
    table = pd.DataFrame({"patient_id": names, "photo": [f"{n}.png" for n in names], "event": 1})
    table["time"] = rng.exponential(np.exp(-w_plus[:, 0, 0])) + 0.01
    cohort = ss.read_cohort(table, check_photos=False)
    model = ss.fit(latents, cohort, model="cox-ridge")
    assert model.coef_.size == ROWS * 4
    attribute = ss.health_attribute(model, latents, cohort)
    assert attribute.pattern.shape == (ROWS, 4)
    from stylegan_surv.attribute.edit import moved

    row = torch.tensor(w_plus[0])
    there = moved(attribute, row, [0.0, 2.0], "pattern")
    assert torch.equal(there[0], row)
    assert torch.equal(there[1, ROWS:], row[ROWS:])
    assert not torch.allclose(there[1, :ROWS], row[:ROWS])
    changed = replace(latents, w_plus=np.concatenate([w_plus[:, :ROWS], w_plus[:, ROWS:] + 9], axis=1))
    assert np.array_equal(ss.fit(changed, cohort, model="cox-ridge").coef_, model.coef_)
