"""An edit begins where the study did: at the stored latent, or at the one that the study's way of embedding gives."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stylegan_surv.attribute import HealthAttribute, begin, edit
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces import chips as chips_module
from stylegan_surv.faces.chips import Chips
from stylegan_surv.gan import Encoder, EncoderConfig, Generator, GeneratorConfig, save_network
from stylegan_surv.inversion import EmbedSettings, Latents, Schedule, embed

CONFIG = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)
SHAPE = EncoderConfig(32, CONFIG.num_ws, CONFIG.w_dim, channel_base=256, channel_max=8)
WAYS = {
    "encoder": EmbedSettings("encoder", batch=4, passes=1),
    "hybrid": EmbedSettings("hybrid", batch=4, schedule={"steps": 5, "target": None}),
    "exploring": EmbedSettings(
        "hybrid", batch=4, seed=3, schedule=Schedule(steps=5, exploration=0.05, noise=True)
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator with its encoder, and seven photographs of 64 px that are chips as they are."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    save_network(Generator(CONFIG), folder / "tiny.safetensors", {"name": str(folder / "tiny.safetensors")})
    save_network(Encoder(SHAPE), folder / "tiny.encoder.safetensors", {"name": "tiny"})
    (folder / "photos").mkdir()
    rng, names = np.random.default_rng(0), [f"p{i}" for i in range(7)]
    pictures = [rng.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in names]
    for name, picture in zip(names, pictures):
        Image.fromarray(picture).save(folder / "photos" / f"{name}.png")
    made = Chips.create(folder / "chips", pictures, names)
    files = [folder / "photos" / f"{name}.png" for name in names]
    table = made.table.assign(source_sha256=[chips_module.sha256(file) for file in files])
    table.to_parquet(folder / "chips" / "_chips.parquet")
    return folder


@pytest.fixture(params=WAYS)
def study(request: pytest.FixtureRequest, place: Path, tmp_path: Path) -> tuple[str, Latents]:
    generator = place / "tiny.safetensors"
    way = request.param
    return way, embed(place / "chips", generator=generator, out=tmp_path / "l", settings=WAYS[way])


def attribute_of(latents: Latents) -> HealthAttribute:
    shape = latents.w_plus.shape[1:]
    rng = np.random.default_rng(1)
    return HealthAttribute(
        rng.normal(size=shape),
        None,
        None,
        np.zeros(shape),
        1.0,
        origin=latents.origin,
        latents=latents.folder,
    )


def test_a_photograph_of_the_study_begins_at_its_latent(study, place, tmp_path) -> None:
    """Found by its bytes, whatever its name; what is stored is returned in every bit."""
    _, latents = study
    shutil.copy(place / "photos" / "p4.png", tmp_path / "another name.png")
    start = begin(attribute_of(latents), tmp_path / "another name.png", aligned=True)
    assert start.photo_id == "p4"
    assert "the study has of this photograph" in start.said
    assert start.w_plus.numpy().tobytes() == latents.select(["p4"]).w_plus[0].tobytes()


def test_embedding_it_anew_gives_the_same_latent(study, place) -> None:
    """Without the dataset the networks, method, settings and filter of the study do it, to the last bit."""
    way, latents = study
    attribute = replace(attribute_of(latents), latents=None)
    for name in ("p0", "p5"):
        start = begin(attribute, place / "photos" / f"{name}.png", aligned=True)
        assert start.photo_id is None
        assert start.w_plus.numpy().tobytes() == latents.select([name]).w_plus[0].tobytes()
    assert f"{WAYS[way].method}, seed {WAYS[way].seed}" in start.said


def test_a_dataset_that_was_made_anew_is_not_the_studys(place, tmp_path) -> None:
    generator = place / "tiny.safetensors"
    attribute = attribute_of(
        embed(place / "chips", generator=generator, out=tmp_path / "l", settings=WAYS["encoder"])
    )
    shutil.rmtree(tmp_path / "l")
    embed(place / "chips", generator=generator, out=tmp_path / "l", settings=WAYS["hybrid"])
    photo = place / "photos" / "p1.png"
    assert begin(attribute, photo, aligned=True).photo_id is None
    with pytest.raises(Refused, match="does not hold the study's latents: method = encoder, not hybrid"):
        begin(attribute, photo, aligned=True, latents=tmp_path / "l")


def test_networks_of_another_study_are_refused(place, tmp_path) -> None:
    latents = embed(place / "chips", generator=place / "tiny.safetensors", settings=WAYS["encoder"])
    torch.manual_seed(9)
    other = Generator(CONFIG).requires_grad_(False)
    with pytest.raises(Refused, match="made with another generator"):
        edit(attribute_of(latents), place / "photos" / "p1.png", aligned=True, generator=other)
    with pytest.raises(Refused, match="made with another generator"):
        edit(attribute_of(latents), torch.from_numpy(latents.w_plus[0]), generator=other)
    with pytest.raises(Refused, match="made with another encoder"):
        begin(attribute_of(latents), place / "photos" / "p1.png", aligned=True, encoder=Encoder(SHAPE))
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(InputError):
        begin(attribute_of(latents), tmp_path / "x.png", aligned=True)
