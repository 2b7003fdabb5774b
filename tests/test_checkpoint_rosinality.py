"""rosinality's layout: names and singleton dimensions change, bits do not; what it cannot hold is refused."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint_files import random_discriminator, random_generator, write_nvlabs

from stylegan_surv import InputError, Refused
from stylegan_surv.gan import load_discriminator, load_generator, save_network
from stylegan_surv.gan.formats import rosinality

HERE = Path(__file__).parent / "data" / "checkpoints"
SHARED = os.environ.get("STYLEGAN_SURV_SHARED")


def assert_same(a, b):
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def round_trip(pkl: Path, folder: Path) -> None:
    """NVlabs → ours → rosinality → ours."""
    G, D = load_generator(pkl), load_discriminator(pkl)
    save_network(G, folder / "G.safetensors", G.card)
    save_network(D, folder / "D.safetensors", D.card)
    rosinality.write(
        folder / "n.pt",
        load_generator(folder / "G.safetensors"),
        load_discriminator(folder / "D.safetensors"),
    )
    again = load_generator(folder / "n.pt")
    assert_same(G, again)
    assert_same(D, load_discriminator(folder / "n.pt"))
    save_network(again, folder / "again.safetensors", again.card)
    assert_same(G, load_generator(folder / "again.safetensors"))


@pytest.mark.parametrize(("resolution", "layers"), [(8, 1), (32, 8)])
def test_round_trip_keeps_every_bit(resolution, layers, tmp_path):
    G = random_generator(resolution=resolution, mapping_layers=layers)
    write_nvlabs(tmp_path / "n.pkl", G_ema=G, D=random_discriminator(resolution=resolution))
    round_trip(tmp_path / "n.pkl", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    not SHARED, reason="STYLEGAN_SURV_SHARED does not name the folder with the acceptance files"
)
def test_round_trip_of_the_acceptance_network(tmp_path):
    round_trip(Path(SHARED) / "accept" / "checkpoints" / "sg2_32.pkl", tmp_path)


def test_layout_is_rosinalitys(tmp_path):
    """The key and shape list of its own generator and discriminator class, at 16 px."""
    notes = rosinality.write(tmp_path / "n.pt", random_generator(), random_discriminator())
    content = torch.load(tmp_path / "n.pt", weights_only=True)
    assert set(content) == {"g_ema", "latent_avg", "d", "card"}
    shapes = {key: list(x.shape) for key, x in content["g_ema"].items()}
    assert shapes["input.input"] == [1, 12, 4, 4]
    assert shapes["conv1.conv.weight"] == [1, 12, 12, 3, 3]
    assert shapes["convs.2.conv.modulation.weight"] == [12, 8]
    assert shapes["convs.3.noise.weight"] == [1]
    assert shapes["to_rgbs.1.bias"] == [1, 3, 1, 1]
    assert shapes["noises.noise_4"] == [1, 1, 16, 16]
    assert float(content["g_ema"]["convs.0.conv.blur.kernel"].sum()) == pytest.approx(4)
    assert float(content["d"]["convs.1.skip.0.kernel"].sum()) == pytest.approx(1)
    assert len(shapes) == 2 * 2 + 1 + 5 * 6 + 3 * 4 + 2 * 2  # mapping, const, styled convs, torgbs, kernels
    assert "n_mlp=2" in notes[0]
    assert "[12, 12, 8]" in notes[1]


def test_widths_of_its_own_class_need_no_note(tmp_path):
    G = random_generator(channel_base=16384, channel_max=512, resolution=8)
    assert len(rosinality.write(tmp_path / "n.pt", G)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conv_clamp": 256.0}, "conv_clamp 256"),
        ({"architecture": "resnet"}, "architecture 'resnet'"),
        ({"c_dim": 3}, "3 labels"),
        ({"use_noise": False}, "always adds noise"),
        ({"z_dim": 4}, "z of 4 and w of 8"),
    ],
)
def test_generators_that_it_cannot_hold_are_refused_with_the_reason(changes, reason, tmp_path):
    with pytest.raises(Refused, match=reason):
        rosinality.write(tmp_path / "n.pt", random_generator(**changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [{"architecture": "skip"}, {"c_dim": 2, "cmap_dim": 12}, {"mbstd_group": 8}, {"conv_clamp": 1.0}],
)
def test_discriminators_that_it_cannot_hold_are_refused(changes, tmp_path):
    with pytest.raises(Refused, match="cannot hold this discriminator"):
        rosinality.write(tmp_path / "n.pt", random_generator(), random_discriminator(**changes))


def trained(folder: Path, **more) -> Path:
    """What rosinality's training script leaves: three networks, optimisers, arguments, no latent_avg."""
    rosinality.write(folder / "n.pt", random_generator(), random_discriminator())
    content = torch.load(folder / "n.pt", weights_only=True)
    content["g"] = {key: x if "kernel" in key else x + 1 for key, x in content["g_ema"].items()}
    del content["latent_avg"]
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))])
    content |= {"g_optim": optimiser.state_dict(), "args": argparse.Namespace(size=16, path="lmdb"), **more}
    torch.save(content, folder / "550000.pt")
    return folder / "550000.pt"


def test_training_state_loads_and_its_missing_mean_is_computed_and_said(tmp_path):
    G = load_generator(trained(tmp_path))
    expected = random_generator()
    assert torch.equal(G.synthesis.b4.const, expected.synthesis.b4.const)
    w = expected.mapping(torch.randn(50_000, 8))[:, 0]
    assert (G.mapping.w_avg - w.mean(dim=0)).abs().max() < 6 * float(w.std()) / 100
    assert "mean of w over 10000" in G.card["notes"][0]
    raw = load_generator(tmp_path / "550000.pt", network="G")
    assert torch.equal(raw.synthesis.b4.const, expected.synthesis.b4.const + 1)


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("old_format", [False, True])
def test_both_archive_formats_load_under_any_name(old_format, suffix, tmp_path):
    rosinality.write(tmp_path / "n.pt", random_generator())
    content = torch.load(tmp_path / "n.pt", weights_only=True)
    torch.save(content, tmp_path / f"renamed{suffix}", _use_new_zipfile_serialization=not old_format)
    assert_same(load_generator(tmp_path / f"renamed{suffix}"), random_generator())


@pytest.mark.parametrize("rows", [6, 1])
def test_decoders_of_e4e_and_psp_load(rows, tmp_path):
    rosinality.write(tmp_path / "n.pt", random_generator())
    content = torch.load(tmp_path / "n.pt", weights_only=True)
    state = {f"decoder.{key}": x for key, x in content["g_ema"].items()}
    state["encoder.input_layer.0.weight"] = torch.zeros(2)
    file = {
        "state_dict": state,
        "latent_avg": content["latent_avg"].repeat(rows, 1),
        "opts": {"device": "cuda"},
    }
    torch.save(file, tmp_path / "e4e.pt")
    assert_same(load_generator(tmp_path / "e4e.pt"), random_generator())


def test_first_conversions_without_noise_maps_load(tmp_path):
    rosinality.write(tmp_path / "n.pt", random_generator())
    content = torch.load(tmp_path / "n.pt", weights_only=True)
    content["g_ema"] = {k: v for k, v in content["g_ema"].items() if not k.startswith("noises.")}
    torch.save(content, tmp_path / "n.pt")
    a, b = load_generator(tmp_path / "n.pt"), load_generator(tmp_path / "n.pt")
    assert_same(a, b)


def damaged(change):
    def write(path):
        rosinality.write(path, random_generator())
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return write


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(1 << 20))


def nested(path):
    class Trap:
        def __reduce__(self):
            return open, ("PWNED", "w")

    torch.save({"g_ema": {"input.input": Trap()}}, path)


FAULTS = {
    "unknown tensor": (damaged(lambda c: c["g_ema"].update(extra=torch.zeros(1))), "has 'extra'"),
    "missing tensor": (damaged(lambda c: c["g_ema"].pop("to_rgb1.bias")), "lacks 'to_rgb1.bias'"),
    "wrong shape": (damaged(lambda c: c["g_ema"].update({"to_rgb1.bias": torch.zeros(9)})), "shape"),
    "other filter": (
        damaged(lambda c: c["g_ema"].update({"convs.0.conv.blur.kernel": torch.ones(2, 2)})),
        "a filter of 2×2 taps",
    ),
    "empty network": (damaged(lambda c: c["g_ema"].clear()), "holds no G_ema"),
    "other dict": (lambda path: torch.save({"weights": 1}, path), "the keys weights"),
    "a tensor": (lambda path: torch.save(torch.zeros(3), path), "holds Tensor"),
    "compressed": (bomb, "unpacks to more"),
    "no archive": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), "damaged"),
    "code": (nested, "nothing in it was run: it asks for 'io.open'"),
    "cut off": (
        lambda path: path.write_bytes(HERE.joinpath("evil_rosinality.pt").read_bytes()[:700]),
        "damaged",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_at_fault_are_refused_with_one_message(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, said = FAULTS[fault]
    write(tmp_path / "n.pt")
    with pytest.raises(InputError, match=said) as refusal:
        load_generator(tmp_path / "n.pt")
    assert "\n" not in str(refusal.value)
    assert not Path("PWNED").exists()


def test_plain_pickles_of_tensors_are_not_archives(tmp_path):
    buffer = io.BytesIO()
    pickle.dump({"g_ema": {"input.input": [1.0]}}, buffer)
    (tmp_path / "n.pt").write_bytes(buffer.getvalue())
    with pytest.raises(Refused, match="expected a dict with G_ema"):
        load_generator(tmp_path / "n.pt")


def test_the_card_travels_with_the_file(tmp_path):
    G = random_generator()
    G.card = {"licence": "CC0-1.0", "provenance": {"kind": "synthetic"}, "sha256": "of another file"}
    rosinality.write(tmp_path / "n.pt", G)
    card = load_generator(tmp_path / "n.pt").card
    assert (card["licence"], card["provenance"]) == ("CC0-1.0", {"kind": "synthetic"})
    assert card["sha256"] == card["source"]["sha256"] != "of another file"
    content = torch.load(tmp_path / "n.pt", weights_only=True)
    torch.save({**content, "card": "[not a card"}, tmp_path / "n.pt")
    assert load_generator(tmp_path / "n.pt").card["provenance"] == {"kind": "unknown"}
