"""The health attribute: algebra of the directions, mapping back, and what an edit does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stylegan_surv.attribute import (
    HealthAttribute,
    begin,
    cosine,
    dose_response,
    edit,
    faithful,
    focus,
    load_attribute,
    save_attribute,
    strip,
)
from stylegan_surv.attribute.direction import shown_given
from stylegan_surv.attribute.pattern import adjusted_pattern, coefficient_step, linear_coefficients, pattern
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan import Encoder, EncoderConfig, Generator, GeneratorConfig
from stylegan_surv.inversion.inverter import Inverter
from stylegan_surv.inversion.origin import Network, Origin
from stylegan_surv.inversion.settings import Settings
from stylegan_surv.inversion.sources import chip_tensor
from stylegan_surv.survival import CoxRidge, Outcome

RNG = np.random.default_rng(0)
N, P = 300, 12
X = RNG.normal(size=(N, P)) @ RNG.normal(size=(P, P))
BETA = RNG.normal(size=P)


def outcome() -> Outcome:
    risk = X @ BETA / (X @ BETA).std()
    time = RNG.exponential(np.exp(-risk)) + 1e-6
    return Outcome(np.arange(N).astype(str), time, RNG.random(N) < 0.7)


def test_pattern_is_covariance_times_coefficient() -> None:
    risk = X @ BETA
    expected = np.cov(X, rowvar=False, bias=True) @ BETA / risk.std()
    np.testing.assert_allclose(pattern(X, risk), expected, rtol=1e-10)


def test_one_step_is_one_sd_of_risk() -> None:
    risk = X @ BETA
    for direction in (pattern(X, risk), coefficient_step(BETA, risk.std())):
        assert direction @ BETA == pytest.approx(risk.std(), rel=1e-10)


def test_the_coefficient_is_the_shortest_step() -> None:
    risk = X @ BETA
    assert np.linalg.norm(coefficient_step(BETA, risk.std())) < np.linalg.norm(pattern(X, risk))


def test_adjusting_for_what_drives_the_risk_leaves_nothing() -> None:
    covariate = RNG.normal(size=N)
    x = np.outer(covariate, np.ones(P)) + RNG.normal(size=(N, P))
    assert np.abs(adjusted_pattern(x, 2 * covariate + 1, covariate[:, None])).max() < 1e-8
    assert np.abs(pattern(x, 2 * covariate + 1)).min() > 0.5


def test_adjusting_for_independent_noise_changes_little() -> None:
    risk = X @ BETA
    assert cosine(pattern(X, risk), adjusted_pattern(X, risk, RNG.normal(size=(N, 2)))) > 0.97


def test_a_constant_risk_has_no_pattern() -> None:
    assert not pattern(X, np.ones(N)).any()


@pytest.mark.parametrize(
    "model",
    [
        CoxRidge(alpha=5.0, alphas=(5.0,)),
        make_pipeline(StandardScaler(), CoxRidge(alpha=5.0, alphas=(5.0,))),
        make_pipeline(StandardScaler(), PCA(5), CoxRidge(alpha=5.0, alphas=(5.0,))),
        make_pipeline(PCA(4, whiten=True), CoxRidge(alpha=5.0, alphas=(5.0,))),
    ],
    ids=["plain", "scaled", "scaled-pca", "whitened"],
)
def test_coefficients_come_back_through_the_pipeline(model: object) -> None:
    model.fit(X, outcome().y)  # type: ignore[attr-defined]
    beta = linear_coefficients(model, P)
    assert beta is not None
    moved = X + RNG.normal(size=X.shape)
    change = model.predict(moved) - model.predict(X)  # type: ignore[attr-defined]
    np.testing.assert_allclose((moved - X) @ beta, change, rtol=1e-6, atol=1e-8)


def test_a_forest_has_no_coefficient() -> None:
    from stylegan_surv.survival.engines.registry import make_model

    assert linear_coefficients(make_model("rsf"), P) is None


# ------------------------------------------------------------------------------------- pictures, tiny networks


@pytest.fixture(scope="module")
def networks() -> tuple[Generator, Encoder]:
    torch.manual_seed(0)
    config = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=16)
    encoder = Encoder(EncoderConfig(32, config.num_ws, 8, channel_base=128, channel_max=16))
    return Generator(config).eval(), encoder.eval()


@pytest.fixture
def attribute(networks: tuple[Generator, Encoder]) -> HealthAttribute:
    shape = (networks[0].config.num_ws, 8)
    rng = np.random.default_rng(1)
    d, b = rng.normal(size=shape), rng.normal(size=shape)
    origin = Inverter(*networks, Settings("encoder")).origin()
    return HealthAttribute(d, b, None, np.zeros(shape), 0.7, split_half={"pattern": 0.8}, origin=origin)


def test_step_zero_is_the_embedded_face(
    networks: tuple[Generator, Encoder], attribute: HealthAttribute
) -> None:
    generator, encoder = networks
    photo = Image.fromarray(np.random.default_rng(2).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    pictures = edit(attribute, photo, (-1, 0, 1), generator=generator, encoder=encoder, aligned=True)
    with torch.no_grad():
        expected = generator.synthesis(encoder(chip_tensor(photo, 32)[None]))[0]
    drawn = chip_tensor(pictures[1], 32)
    assert (drawn - expected.clamp(-1, 1)).abs().max() < 2 / 255
    assert np.abs(np.asarray(pictures[0], float) - np.asarray(pictures[2], float)).max() > 1
    assert strip(pictures, (-1, 0, 1)).width == 3 * 160


def test_a_faithful_generator_draws_the_photograph_and_its_delta_serves_no_other(
    networks: tuple[Generator, Encoder], attribute: HealthAttribute, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    photo, other = (Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in range(2))
    generator, encoder = networks
    start, elsewhere = (
        begin(attribute, p, aligned=True, generator=generator, encoder=encoder) for p in (photo, other)
    )
    delta = tmp_path / "delta.safetensors"
    tuned = faithful(start, generator, delta=delta)

    def error(net: Generator) -> float:
        picture = edit(attribute, start.w_plus, (0,), generator=net)[0]
        return float((chip_tensor(picture, 32) - start.chip).square().mean())

    assert error(tuned) < 0.7 * error(generator)
    steps: list[int] = []
    again = faithful(start, generator, delta=delta, progress=lambda done, _: steps.append(done))
    assert not steps
    assert error(again) == pytest.approx(error(tuned), rel=0.05)
    with pytest.raises(Refused, match="another photograph"):
        faithful(elsewhere, generator, delta=delta)


def test_an_attribute_of_another_generator_is_refused(
    networks: tuple[Generator, Encoder], attribute: HealthAttribute
) -> None:
    with pytest.raises(InputError, match="use the generator and encoder"):
        edit(attribute, torch.zeros(4, 8), (0.0,), generator=networks[0])


def test_a_missing_direction_says_what_to_do(attribute: HealthAttribute) -> None:
    with pytest.raises(InputError, match="adjust_for"):
        attribute.direction("adjusted")


def test_saved_and_loaded_attributes_are_equal(attribute: HealthAttribute, tmp_path: object) -> None:
    origin = Origin(attribute.pattern.shape[0], 8, Network("synthetic-64"))
    save_attribute(replace(attribute, origin=origin), tmp_path)  # type: ignore[arg-type]
    again = load_attribute(tmp_path)  # type: ignore[arg-type]
    np.testing.assert_allclose(again.pattern, attribute.pattern, rtol=1e-6)
    assert again.adjusted is None
    assert (again.risk_sd, again.split_half, again.origin) == (0.7, {"pattern": 0.8}, origin)


def test_a_folder_without_an_attribute_is_named(tmp_path: object) -> None:
    with pytest.raises(InputError, match=r"holds no direction\.safetensors"):
        load_attribute(tmp_path)  # type: ignore[arg-type]


class Linear:
    """A risk that is linear in the latents."""

    def __init__(self, beta: np.ndarray) -> None:
        self.coef_ = beta

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x) @ self.coef_


def test_dose_response_is_zero_at_zero(
    networks: tuple[Generator, Encoder], attribute: HealthAttribute
) -> None:
    generator, encoder = networks
    model = Linear(np.random.default_rng(3).normal(size=generator.config.num_ws * 8))
    found = dose_response(
        attribute, model, np.zeros((2, generator.config.num_ws, 8)), generator, encoder, steps=(-1, 0, 1)
    )
    assert found.risk.shape == (2, 3)
    assert not found.risk[:, 1].any()
    assert not found.lpips[:, 1].any()
    assert (found.lpips[:, [0, 2]] > 0).all()


def test_focus_counts_the_gradient_inside_the_mask(networks: tuple[Generator, Encoder]) -> None:
    encoder = networks[1]
    model = Linear(np.random.default_rng(4).normal(size=encoder.shape.num_ws * 8))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    everything, half = np.ones((32, 32)), np.zeros((32, 32))
    half[:, :16] = 1
    assert focus(model, images, encoder, everything)["ratio"] == pytest.approx(1)
    left, right = focus(model, images, encoder, half), focus(model, images, encoder, 1 - half)
    assert left["inside"] + right["inside"] == pytest.approx(1, abs=1e-5)


def test_a_drawn_attribute_is_adjusted_for_age_and_sex_and_never_for_stage() -> None:
    n = 60
    table = pd.DataFrame(
        {
            "age": np.arange(n), "sex": ["F", "M"] * (n // 2), "stage": ["I", "II", "III"] * (n // 3),
            "site": [f"s{i}" for i in range(n)], "era": ["1990s"] * n, "skin_tone": np.arange(n),
        }
    )  # fmt: skip
    given = shown_given(table)
    assert given is not None
    assert list(given.columns) == ["age", "sex"]
    assert shown_given(table[["stage", "era"]]) is None
