"""Training an encoder: it learns the latents, resumes exactly, and says whom it has seen."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from stylegan_surv.errors import InputError
from stylegan_surv.gan import Encoder, EncoderConfig, Generator, GeneratorConfig, load_encoder
from stylegan_surv.gan.data import ImageSet, hold_out
from stylegan_surv.gan.formats.provenance import intersect
from stylegan_surv.inversion.encode import encode
from stylegan_surv.inversion.train_encoder import (
    POOL,
    EncoderSettings,
    _Run,
    photographs,
    recovery,
    train_encoder,
    whitening,
)

CONFIG = GeneratorConfig(32, z_dim=4, w_dim=4, mapping_layers=1, channel_base=256, channel_max=8)
SHAPE = EncoderConfig(32, CONFIG.num_ws, CONFIG.w_dim, channel_base=256, channel_max=8)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(1)
    return Generator(CONFIG).requires_grad_(False).eval()


def test_it_learns_to_recover_latents(generator, tmp_path):
    torch.manual_seed(2)
    start = Encoder(SHAPE)
    before = recovery(generator, start, n=64, camera=0.0)
    recipe = EncoderSettings(images=1600, batch=16, rate=5e-3, camera=(0.0, 0.0), ema_images=100)
    trained = train_encoder(generator, tmp_path / "e.safetensors", recipe, start=start)
    after = recovery(generator, trained, n=64, camera=0.0)
    assert after < 0.6 < before


MODULE = importlib.import_module("stylegan_surv.inversion.train_encoder")  # the package exports its function


@pytest.mark.parametrize("precision", ["float32", "bf16", "auto"])
def test_a_run_that_was_stopped_ends_as_if_it_never_had(generator, tmp_path, monkeypatch, precision):
    monkeypatch.setattr(MODULE, "SAVE_EVERY", 2)
    monkeypatch.setattr(MODULE, "choose", lambda device: "bf16")
    recipe = EncoderSettings(images=40, batch=8, precision=precision)
    whole = train_encoder(generator, tmp_path / "a.safetensors", recipe)

    def stop(done: int, total: int) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(generator, tmp_path / "b.safetensors", recipe, progress=stop)
    with pytest.raises(InputError, match="other settings"):
        train_encoder(generator, tmp_path / "b.safetensors", EncoderSettings(images=48, batch=8))
    monkeypatch.setattr(MODULE, "choose", lambda device: "float32")  # a busy moment: the run keeps its own
    seen: list[int] = []
    resumed = train_encoder(
        generator, tmp_path / "b.safetensors", recipe, progress=lambda done, total: seen.append(done)
    )
    assert seen == [24, 32, 40]
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()):
        assert torch.equal(a, b)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".state"] == []


def test_the_saved_encoder_is_the_averaged_one_and_inherits_provenance(generator, tmp_path):
    made = train_encoder(generator, tmp_path / "e.safetensors", EncoderSettings(images=16, batch=8))
    read = load_encoder(tmp_path / "e.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(read(images), made(images), atol=1e-6)
    assert read.card["provenance"] == {"kind": "unknown"}


@pytest.fixture
def faces() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    return ImageSet(
        tuple(f"photo-{i}" for i in range(20)), pixels, (), tuple(f"P{i // 2}" for i in range(20))
    )


def test_its_card_names_the_patients_of_photographs_and_of_its_start(generator, faces, tmp_path):
    generator.card["provenance"] = {"kind": "synthetic"}
    recipe = EncoderSettings(images=8, batch=8)
    study = pd.DataFrame({"patient_id": ["P1", "P2", "Q"], "photo_id": ["a", "b", "c"]})
    first = train_encoder(generator, tmp_path / "a.safetensors", recipe, photos=faces)
    again = train_encoder(generator, tmp_path / "b.safetensors", recipe, start=first)
    for made in (first, again):
        seen = intersect(study, made.card)
        assert (seen.known, seen.patients) == (True, ("P1", "P2"))
    bare = train_encoder(generator, tmp_path / "c.safetensors", recipe, photos=replace(faces, owners=()))
    assert not intersect(study, bare.card).known  # nobody has said whose they are
    generator.card.clear()


def test_held_out_patients_are_those_that_a_fine_tuning_run_leaves_out(generator, faces):
    recipe = EncoderSettings(hold_out=0.5, hold_out_seed=3)
    chips = _Run(generator, recipe, faces, None).chips
    assert chips.patients == faces.subset(hold_out(faces.patients, 0.5, 3)[0]).patients
    assert 0 < len(set(chips.patients)) < 10


@pytest.mark.parametrize(("batch", "real", "chips"), [(2, 0.25, 1), (8, 0.99, 7), (8, 0.25, 2), (8, 0.0, 0)])
def test_a_batch_holds_both_kinds_of_pictures(generator, faces, monkeypatch, batch, real, chips):
    run = _Run(generator, EncoderSettings(batch=batch, real=real), faces, None)
    asked = []
    monkeypatch.setattr(run, "_chip_loss", lambda _, rng, n: asked.append(n) or torch.zeros(()))
    run.advance(0)
    assert asked == ([chips] if chips else [])


def test_what_cannot_be_trained_is_said(generator, faces):
    with pytest.raises(InputError, match="All 20 chips are held out"):
        _Run(generator, EncoderSettings(hold_out=1.0), faces, None)
    with pytest.raises(InputError, match="do not belong together"):
        _Run(generator, EncoderSettings(), faces, Encoder(replace(SHAPE, resolution=64)))


def test_a_state_of_other_inputs_is_refused(generator, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "SAVE_EVERY", 1)
    recipe = EncoderSettings(images=32, batch=8)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(generator, tmp_path / "e.safetensors", recipe, progress=stop)
    torch.manual_seed(9)
    other = Generator(CONFIG).requires_grad_(False).eval()
    with pytest.raises(InputError, match="other generator"):
        train_encoder(other, tmp_path / "e.safetensors", recipe)
    with pytest.raises(InputError, match="other start and photos"):
        train_encoder(generator, tmp_path / "e.safetensors", recipe, photos=faces, start=Encoder(SHAPE))


def test_a_loss_that_is_not_finite_stops_the_run_and_writes_nothing(generator, tmp_path):
    with pytest.raises(InputError, match="loss became"):
        train_encoder(generator, tmp_path / "e.safetensors", EncoderSettings(images=80, batch=8, rate=1e30))
    assert not (tmp_path / "e.safetensors").exists()


def test_a_conditional_generator_gets_a_label_of_zeros(tmp_path):
    torch.manual_seed(1)
    conditional = Generator(replace(CONFIG, c_dim=3)).requires_grad_(False).eval()
    made = train_encoder(conditional, tmp_path / "e.safetensors", EncoderSettings(images=8, batch=8))
    assert np.isfinite(recovery(conditional, made, n=32))


def test_refinement_moves_towards_what_the_encoder_sees(generator):
    """For an encoder that inverts the generator up to a constant error, the residual of a pass cancels it."""

    class Biased(torch.nn.Module):
        def forward(self, images):
            return images[:, :1, :1, :4].flatten(1)[:, None] * 1.0 + 0.3

    class Identity:
        def synthesis(self, w):
            return w.view(-1, 1, 1, 4).expand(-1, 3, 4, 4)

    truth = torch.randn(3, 1, 4)
    images = Identity().synthesis(truth)
    plain = encode(Biased(), Identity(), images)
    refined = encode(Biased(), Identity(), images, passes=1)
    assert torch.allclose(plain - truth, torch.full_like(truth, 0.3))
    assert torch.allclose(refined, truth, atol=1e-6)


def test_the_camera_changes_pictures_and_is_keyed_by_index():
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    first = photographs(images, 1.0, seed=0, first=0)
    assert first.shape == images.shape
    assert torch.equal(photographs(images[2:], 1.0, seed=0, first=2), first[2:])
    assert (first - images).abs().mean() > 0.05


def test_the_rate_rises_and_falls():
    recipe = EncoderSettings(images=3200, batch=32, rate=1.0)
    rates = np.array([recipe.rate_at(step) for step in range(recipe.steps)])
    assert rates[0] == pytest.approx(0.5)
    assert rates.argmax() == 1
    assert rates[-1] < 0.001


def test_whitening_counts_every_wide_direction_alike(generator):
    w = generator.mapping(torch.randn(50_000, 4, generator=torch.Generator().manual_seed(3)))[:, 0]
    scores = (w - w.mean(dim=0)) @ whitening(generator)
    assert float(scores.square().sum(dim=1).mean()) == pytest.approx(1, abs=0.03)
    spread, before = scores.var(dim=0), torch.linalg.eigvalsh(w.T.cov())
    assert spread.max() / spread.min() < before.max() / before.min()
    assert torch.allclose(scores.T.cov(), spread.diag(), atol=0.02)  # principal directions: uncorrelated


def test_every_drawn_face_is_photographed_equally_often(generator):
    recipe = EncoderSettings(images=4000, batch=4, shots=3)
    run = _Run(generator, recipe, None, None)
    seen = torch.cat([run._drawn(step, 4)[1] for step in range(POOL * 3)])
    _, count = torch.unique(seen, dim=0, return_counts=True)
    assert count.tolist() == [3] * (POOL * 4)
    faces, truth = run._drawn(POOL * 3 + 1, 4)
    again, same = _Run(generator, recipe, None, None)._drawn(POOL * 3 + 1, 4)  # without what came before
    assert torch.equal(faces, again)
    assert torch.equal(truth, same)
    drawn = generator.synthesis(truth[:, None].expand(-1, CONFIG.num_ws, -1)).clamp(-1, 1)
    assert torch.allclose(drawn, faces, atol=1e-5)
