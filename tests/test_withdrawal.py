"""A withdrawn patient: chips, latents, noise maps, tuned weights go; studies and networks are named; others stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from stylegan_surv.cli import cli
from stylegan_surv.cohort import read_cohort
from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips
from stylegan_surv.gan import Generator, GeneratorConfig
from stylegan_surv.gan.formats.checkpoint import save_network
from stylegan_surv.gan.formats.provenance import record
from stylegan_surv.inversion import EmbedSettings, Latents, Schedule, embed
from stylegan_surv.inversion.dataset import read_noise
from stylegan_surv.inversion.faithful import save_delta
from stylegan_surv.inversion.sources import chip_tensor
from stylegan_surv.withdrawal import forget

TINY = GeneratorConfig(resolution=32, z_dim=8, w_dim=8, mapping_layers=1, channel_base=128, channel_max=8)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Chips and latents of four patients with two photographs each, networks, tuned weights and two studies."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    generator = Generator(TINY)
    names = [f"p{i}_{k}" for i in range(4) for k in range(2)]
    pictures = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in names]
    chips = Chips.create(tmp_path / "chips", pictures, names)
    rows = [f"P{n[1]},{n}.png,{n[1]}.5,1" for n in names]
    (tmp_path / "clinical.csv").write_text("\n".join(["patient_id,photo,time,event", *rows]))
    cohort = read_cohort(tmp_path / "clinical.csv", photos=tmp_path / "chips")
    few = EmbedSettings("projector", batch=4, schedule=Schedule(steps=1, noise=True, start="mean"))
    embed(chips, cohort=cohort, generator=generator, out=tmp_path / "work" / "latents", settings=few)
    for name, patients in (("seen", ["P1", "P2"]), ("other", ["P0", "P2"])):
        card = {"name": name, "provenance": record(pictures[2:4] if name == "seen" else [], patients)}
        save_network(generator, tmp_path / "work" / f"{name}.safetensors", card)
    for k in (2, 5):
        shown = chip_tensor(Image.fromarray(pictures[k]), 32)
        tuned = Generator(TINY)
        save_delta(tuned, generator, tmp_path / "work" / f"delta{k}.safetensors", shown)
    for name, patients in (("with", ["P0", "P1"]), ("without", ["P0", "P3"])):
        (tmp_path / "work" / name).mkdir()
        (tmp_path / "work" / name / "study.json").write_text("{}")
        pd.DataFrame({"patient_id": patients}).to_parquet(tmp_path / "work" / name / "oof.parquet")
    return tmp_path


def test_all_of_one_patient_goes_and_nothing_of_another(place: Path) -> None:
    chips, latents = place / "chips", place / "work" / "latents"
    before, noise = Latents.open(latents), read_noise(latents, ["p0_0", "p3_1"])
    pixels = {name: Chips.open(chips).load(name) for name in ("p0_0", "p3_1")}
    result = forget("P1", [place])
    assert result.chips == {str(chips): ["p1_0", "p1_1"]}
    assert {k: sorted(v) for k, v in result.latents.items()} == {str(latents): ["p1_0", "p1_1"]}
    assert result.tuned == [str(place / "work" / "delta2.safetensors")]
    assert result.studies == [str(place / "work" / "with")]
    assert result.networks == [str(place / "work" / "seen.safetensors")]
    assert result.unread == {}
    assert sorted(path.name for path in chips.glob("p*.png")) == [
        f"p{i}_{k}.png" for i in (0, 2, 3) for k in (0, 1)
    ]
    after = Latents.open(latents)
    stay = ~np.isin(before.patient_ids, ["P1"])
    assert list(after.ids) == list(before.ids[stay])
    assert np.array_equal(after.w_plus, before.w_plus[stay])
    assert np.array_equal(read_noise(latents, ["p0_0", "p3_1"]), noise)
    assert all(np.array_equal(Chips.open(chips).load(name), pixels[name]) for name in pixels)
    left = b"".join(
        path.read_bytes() for path in place.rglob("*") if path.is_file() and "work/with" not in str(path)
    )
    assert b"p1_0" not in left.replace((place / "clinical.csv").read_bytes(), b"")
    again = forget("P1", [place])
    assert (again.chips, again.latents, again.tuned) == ({}, {}, [])


def test_a_dry_run_removes_nothing(place: Path) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    dry = forget("P1", [place], dry_run=True)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert forget("P1", [place]) == dry


def test_chips_alone_are_found_by_the_table(place: Path) -> None:
    cohort = read_cohort(place / "clinical.csv", photos=place / "chips")
    assert not forget("P1", [place / "chips"], dry_run=True).found
    assert forget("P1", [place / "chips"], cohort).chips == {str(place / "chips"): ["p1_0", "p1_1"]}
    with pytest.raises(InputError, match="no folder"):
        forget("P1", [place / "none"])


def test_the_command_says_what_went_and_what_to_fit_again(place: Path) -> None:
    (place / "work" / "junk.safetensors").write_bytes(b"junk")
    run = CliRunner().invoke(cli, ["forget", "P1", str(place)])
    assert run.exit_code == 1
    for said in (
        "Removed 2 chips",
        "Removed 2 latents",
        "fit it again without",
        "seen.safetensors",
        "Not looked into",
    ):
        assert said in run.output
    (place / "work" / "junk.safetensors").unlink()
    again = CliRunner().invoke(cli, ["forget", "P2", str(place), "--json"])
    assert again.exit_code == 0
    assert len(json.loads(again.output)["networks"]) == 2
    assert CliRunner().invoke(cli, ["forget", "nobody", str(place)]).exit_code == 1
