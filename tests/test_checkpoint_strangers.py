"""What people have: loaded where it can be, and otherwise named, with what to do, in one short message."""

from __future__ import annotations

import gzip
import importlib
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint_files import random_discriminator, random_generator, write_nvlabs
from torch import Tensor, nn

from stylegan_surv import InputError, Refused
from stylegan_surv.gan import load_discriminator, load_encoder, load_generator, save_network
from stylegan_surv.gan.formats import convert, read_card, rosinality

LONGEST = 400  # characters of a message
WIDE = {"resolution": 8, "channel_base": 64, "channel_max": 8}


def half(table: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in table.items()}


def prefixed(table: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{k}": v for k, v in table.items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> dict:
    """rosinality's file of a generator and a discriminator."""
    file = tmp_path_factory.mktemp("whole") / "n.pt"
    rosinality.write(file, random_generator(**WIDE), random_discriminator(**WIDE))
    return torch.load(file, weights_only=True)


def assert_close(a: nn.Module, b: nn.Module, error: float) -> None:
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.allclose(left[k], right[k], rtol=error, atol=error) for k in left)


# ------------------------------------------------------------------------------------------------------- loaded


def test_rosinality_in_half_precision_is_loaded_as_single(theirs, tmp_path):
    small = {
        "g_ema": half(theirs["g_ema"]),
        "d": half(theirs["d"]),
        "latent_avg": theirs["latent_avg"].half(),
    }
    torch.save(small, tmp_path / "n.pt")
    found = load_generator(tmp_path / "n.pt")
    assert found.synthesis.b4.const.dtype == torch.float32
    assert_close(found, random_generator(**WIDE), 1e-3)
    assert_close(load_discriminator(tmp_path / "n.pt"), random_discriminator(**WIDE), 1e-3)
    torch.save({"g_ema": small["g_ema"]}, tmp_path / "bare.pt")  # whose mean of w is to be computed
    load_generator(tmp_path / "bare.pt")


@pytest.mark.parametrize(
    "wrap", [lambda t: t, prefixed, lambda t: {"state_dict": t}, lambda t: {"G_ema": prefixed(t)}]
)
def test_state_dicts_of_either_layout(wrap, theirs, tmp_path):
    """By themselves, in a wrapper, or as DataParallel names them; they do not hold conv_clamp, and the card says so."""
    G = random_generator(**WIDE)
    torch.save(wrap(G.state_dict()), tmp_path / "ours.pt")
    found = load_generator(tmp_path / "ours.pt")
    assert_close(found, G, 0)
    assert "conv_clamp" in found.card["notes"][0]
    torch.save(wrap(theirs["g_ema"]), tmp_path / "theirs.pt")
    assert torch.equal(load_generator(tmp_path / "theirs.pt").synthesis.b4.const, G.synthesis.b4.const)
    with pytest.raises(InputError, match="holds no D; it holds G_ema"):
        load_discriminator(tmp_path / "theirs.pt")


@pytest.mark.parametrize("wrap", [lambda t: t, prefixed])
def test_state_dicts_of_discriminators(wrap, theirs, tmp_path):
    D = random_discriminator(**WIDE)
    for table in (D.state_dict(), theirs["d"]):
        torch.save(wrap(table), tmp_path / "D.pt")
        assert_close(load_discriminator(tmp_path / "D.pt"), D, 0)
        with pytest.raises(InputError, match="holds no G_ema; it holds D"):
            load_generator(tmp_path / "D.pt")


def test_somebody_elses_safetensors(tmp_path):
    from safetensors.torch import save_file

    G = random_generator(**WIDE)
    save_file({k: v.contiguous() for k, v in G.state_dict().items()}, tmp_path / "G.safetensors")
    assert_close(load_generator(tmp_path / "G.safetensors"), G, 0)
    with pytest.raises(InputError, match="tensors without a card"):
        load_encoder(tmp_path / "G.safetensors")


# ---------------------------------------------------------------------------------------------- refused by name


class _Foreign:
    """A network's class that only its own program has."""

    def __init__(self) -> None:
        self.weight = torch.zeros(2)


def whole_module(path: Path) -> None:
    module = types.ModuleType("training.networks")
    module.Generator = type("Generator", (_Foreign,), {"__module__": "training.networks"})
    sys.modules.update({"training": types.ModuleType("training"), "training.networks": module})
    try:
        torch.save(module.Generator(), path)
    finally:
        del sys.modules["training"], sys.modules["training.networks"]


def torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)


def stylegan3(path: Path) -> None:
    net = nn.Module()
    net.synthesis = nn.Module()
    net.synthesis.input = nn.Linear(2, 2)
    write_nvlabs(path, G_ema=net)


def stylegan3_with_arrays(path: Path) -> None:
    """As published: layers keep numpy arrays, which no StyleGAN2 has."""
    numpy = importlib.import_module("numpy")
    path.write_bytes(pickle.dumps({"G_ema": ["class SynthesisInput(torch.nn.Module):", numpy.arange(3)]}))


def conditional(path: Path, content: dict) -> None:
    table = dict(content["g_ema"])
    table["style.1.weight"] = torch.cat([table["style.1.weight"]] * 2, dim=1)
    torch.save({**content, "g_ema": table}, path)


def swagan(path: Path, content: dict) -> None:
    table = dict(content["g_ema"])
    for key in [k for k in table if k.startswith("to_rgb") and k.endswith("conv.weight")]:
        table[key] = torch.cat([table[key]] * 4, dim=1)
    torch.save({**content, "g_ema": table}, path)


def five_taps(path: Path, content: dict) -> None:
    table = dict(content["g_ema"])
    row = torch.tensor([1.0, 4, 6, 4, 1])
    table["convs.0.conv.blur.kernel"] = torch.outer(row, row) / 64
    torch.save({**content, "g_ema": table}, path)


def five_taps_of_ours(path: Path) -> None:
    state = random_generator(**WIDE).state_dict()
    for key in [k for k in state if k.endswith("resample_filter")]:
        state[key] = torch.ones(5, 5) / 25
    torch.save(state, path)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "the network is elsewhere")


def many_keys(path: Path) -> None:
    torch.save({f"a_rather_long_name_of_something_{i}": i for i in range(200)}, path)


def picture(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(path, format="PNG")


def evil(path: Path) -> None:
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch PWNED'\ntR.")


PAGE = b"<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 381673535\n"
STRANGERS = {
    "whole module": (whole_module, r"whole module .*state_dict\(\)"),
    "torchscript": (torchscript, r"TorchScript program .*state_dict\(\)"),
    "stylegan3": (stylegan3, "StyleGAN3 generator"),
    "stylegan3, numpy": (stylegan3_with_arrays, "StyleGAN3 generator"),
    "conditional": (conditional, "conditional generator"),
    "swagan": (swagan, "SWAGAN"),
    "five taps": (five_taps, r"5×5 taps .*expected \[1, 3, 3, 1\]"),
    "five taps, ours": (five_taps_of_ours, r"5×5 taps .*expected \[1, 3, 3, 1\]"),
    "zip": (zipped, r"zip archive of readme\.txt.*unpack it first"),
    "many keys": (many_keys, "and 195 more"),
    "picture": (picture, "a picture"),
    "evil": (evil, "asks for 'os.system', which no network needs"),
    "page": (lambda path: path.write_bytes(PAGE), "web page, not the file"),
    "pointer": (lambda path: path.write_bytes(POINTER), "Git LFS pointer.*git lfs pull"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"weights" * 99)), "unpack it first"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_named_in_one_short_message(name, theirs, tmp_path, monkeypatch):
    make, said = STRANGERS[name]
    path = tmp_path / "network.pkl"
    make(path, theirs) if make.__code__.co_argcount == 2 else make(path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as refusal:
        load_generator(path)
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) <= LONGEST
    assert message.startswith("network.pkl")
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("layout", ["nvlabs", "ours", "archive"])
def test_truncated_files_are_called_so(layout, tmp_path):
    G, path = random_generator(**WIDE), tmp_path / "n"
    if layout == "nvlabs":
        write_nvlabs(path, G_ema=G)
    elif layout == "ours":
        save_network(G, path, {})
    else:
        rosinality.write(path, G)
    content = path.read_bytes()
    for share in (0.02, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(Refused, match="cut off or damaged") as refusal:
            load_generator(path)
        assert len(str(refusal.value)) <= LONGEST


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    G = random_generator(**WIDE)
    save_network(G, tmp_path / "G.safetensors", {})
    assert read_card(tmp_path / "G.safetensors")["format"] == 1
    from stylegan_surv.gan.formats import amend_card

    amend_card(tmp_path / "G.safetensors", {"format": 7})
    with pytest.raises(Refused, match="format 7; this version reads 1"):
        load_generator(tmp_path / "G.safetensors")


def test_a_state_dict_can_be_converted(tmp_path):
    torch.save(random_generator(**WIDE).state_dict(), tmp_path / "G.pt")
    done = convert(tmp_path / "G.pt", tmp_path / "G.safetensors")
    assert "conv_clamp" in done.notes[0]
    assert_close(load_generator(tmp_path / "G.safetensors"), random_generator(**WIDE), 0)
