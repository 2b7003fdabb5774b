"""NVlabs pickles: the numbers of the original implementation are reproduced, and no file is ever executed."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import random_discriminator, random_generator, write_nvlabs

from stylegan_surv import InputError, Refused
from stylegan_surv.gan import load_discriminator, load_encoder, load_generator
from stylegan_surv.gan.formats.nvlabs import read_pickle

HERE = Path(__file__).parent / "data" / "checkpoints"
SHARED = os.environ.get("STYLEGAN_SURV_SHARED")
ALL = ["sg2_32", "auto_cond_32", "resnet_16", "orig_16", "hostile_but_valid"]
EVIL = ["evil_global.pkl", "evil_source.pkl", "evil_nested.pkl", "evil_rosinality.pt"]
LOADERS = [load_generator, load_discriminator, load_encoder]


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path, monkeypatch):
    """Every hostile file here tries to create PWNED in the working folder."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("PWNED").exists()


def assert_reproduces(folder: Path, name: str) -> None:
    G, D = load_generator(folder / f"{name}.pkl"), load_discriminator(folder / f"{name}.pkl")
    with np.load(folder / f"{name}.expected.npz") as file:
        expected = {key: torch.from_numpy(file[key]) for key in file.files}

    def close(value, key):
        scale = float(expected[key].abs().max())
        torch.testing.assert_close(value.detach(), expected[key], rtol=0, atol=1e-4 * scale, msg=key)

    c = expected["c"] if G.config.c_dim else None
    close(G.mapping(expected["z"], c), "ws")
    close(G.mapping(expected["z"], c, truncation_psi=0.7), "ws_psi07")
    close(G.synthesis(expected["ws"], noise_mode="const"), "image_const")
    close(G.synthesis(expected["ws"], noise_mode="none"), "image_none")
    close(G.synthesis(expected["ws_psi07"]), "image_psi07")
    w_plus = expected["w_plus"].clone().requires_grad_()
    images = G.synthesis(w_plus)
    close(images, "image_w_plus")
    images.square().mean().backward()
    close(w_plus.grad, "grad_w_plus")
    close(D(expected["image_const"], c), "d_logits")


@pytest.mark.parametrize("name", ["resnet_16", "orig_16", "hostile_but_valid"])
def test_original_numbers(name):
    assert_reproduces(HERE, name)


@pytest.mark.slow
@pytest.mark.skipif(
    not SHARED, reason="STYLEGAN_SURV_SHARED does not name the folder with the acceptance files"
)
@pytest.mark.parametrize("name", ALL)
def test_all_original_numbers(name):
    assert_reproduces(Path(SHARED) / "accept" / "checkpoints", name)


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".safetensors"])
@pytest.mark.parametrize("name", EVIL)
def test_evil_files_are_refused_with_one_message_whatever_their_name(name, suffix, tmp_path):
    file = tmp_path / f"network{suffix}"
    shutil.copy(HERE / name, file)
    for load in LOADERS:
        with pytest.raises(InputError, match=r"network") as refusal:
            load(file)
        assert "\n" not in str(refusal.value)
        assert "weights_only" not in str(refusal.value)
    shutil.copy(HERE / "orig_16.pkl", file)
    assert load_generator(file).config.resolution == 16


NETWORKS = {
    "skip": ({}, {}),
    "resnet": ({"architecture": "resnet"}, {"architecture": "skip"}),
    "orig without noise": ({"architecture": "orig", "use_noise": False}, {"architecture": "orig"}),
    "conditional": ({"c_dim": 3, "conv_clamp": 256.0}, {"c_dim": 3, "cmap_dim": 12, "conv_clamp": 64.0}),
    "deep mapping": ({"mapping_layers": 8, "resolution": 32}, {"resolution": 32, "mbstd_group": 2}),
    "odd widths": ({"channel_base": 100, "channel_max": 11, "img_channels": 1}, {"mbstd_group": 0}),
}


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("fp16", [False, True])
def test_config_is_inferred_and_tensors_are_kept_bit_for_bit(case, fp16, tmp_path):
    G, D = random_generator(**NETWORKS[case][0]), random_discriminator(**NETWORKS[case][1])
    raw = random_generator(1, **NETWORKS[case][0])
    write_nvlabs(tmp_path / "n.pkl", G_ema=G, G=raw, D=D, fp16=fp16)
    for net, loaded in [
        (G, load_generator(tmp_path / "n.pkl")),
        (raw, load_generator(tmp_path / "n.pkl", network="G")),
        (D, load_discriminator(tmp_path / "n.pkl")),
    ]:
        same = {"channel_base", "channel_max"}  # several rules give the same channels
        for key, value in vars(net.config).items():
            assert key in same or getattr(loaded.config, key) == value, key
        state = loaded.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_frozen_weights_of_a_discriminator_are_buffers(tmp_path):
    D = random_discriminator()
    logits = D(torch.ones(2, 3, 16, 16))
    for module in D.modules():
        for name in list(module._parameters):
            module.register_buffer(name, module._parameters.pop(name))
    write_nvlabs(tmp_path / "n.pkl", D=D)
    assert torch.equal(load_discriminator(tmp_path / "n.pkl")(torch.ones(2, 3, 16, 16)), logits)


def test_card_tells_the_origin(tmp_path):
    write_nvlabs(tmp_path / "network-snapshot-005000.pkl", G_ema=random_generator())
    card = load_generator(tmp_path / "network-snapshot-005000.pkl").card
    assert card["kimg"] == 5000
    assert card["data"] == "faces-16.zip"  # without the folder, which may name a person
    assert card["provenance"] == {"kind": "unknown"}
    assert len(card["source"]["sha256"]) == 64
    assert "not stated" in card["licence"]


# ------------------------------------------------------------------------------------ hostile and foreign streams


def stream(*parts: bytes) -> bytes:
    return pickle.PROTO + b"\x04" + b"".join(parts) + pickle.STOP


def name(module: str, attribute: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


CALL_OPEN = pickle.MARK + text("PWNED") + text("w") + pickle.TUPLE + pickle.REDUCE
TENSOR = "torch._utils", "_rebuild_tensor_v2"
HOSTILE = {
    "builtin": stream(name("builtins", "open"), CALL_OPEN),
    "dotted name": stream(text("collections"), text("OrderedDict.__init__"), pickle.STACK_GLOBAL, CALL_OPEN),
    "through numpy": stream(name("numpy", "dtype.__class__"), CALL_OPEN),
    "INST": stream(pickle.MARK + text("PWNED") + text("w") + pickle.INST + b"builtins\nopen\n"),
    "OBJ": stream(pickle.MARK + name("builtins", "open") + text("PWNED") + text("w") + pickle.OBJ),
    "extension registry": stream(pickle.EXT1 + b"\x01"),
    "persistent id": stream(pickle.PERSID + b"PWNED\n"),
    "huge memo index": stream(pickle.EMPTY_DICT, pickle.LONG_BINPUT + b"\xff\xff\xff\xff"),
    "huge bytes": stream(pickle.BINBYTES8 + (1 << 45).to_bytes(8, "little")),
    "huge frame": stream(pickle.FRAME + (1 << 62).to_bytes(8, "little")),
    "attributes of a class": stream(
        name("dnnlib.util", "EasyDict"), pickle.EMPTY_DICT, pickle.BUILD, pickle.POP
    ),
    "not bytes": stream(name("torch.storage", "_load_from_bytes"), text("x"), pickle.TUPLE1, pickle.REDUCE),
    "object dtype": stream(name("numpy", "dtype"), text("O8"), pickle.TUPLE1, pickle.REDUCE),
    "copied dict": stream(
        name("collections", "OrderedDict"), pickle.EMPTY_DICT, pickle.TUPLE1, pickle.REDUCE
    ),
    "cut off": stream(pickle.EMPTY_DICT)[:-1],
    "a list": stream(pickle.EMPTY_LIST),
    "empty dict": stream(pickle.EMPTY_DICT),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_streams_are_refused(case, tmp_path):
    file = tmp_path / "n.pkl"
    file.write_bytes(HOSTILE[case])
    with pytest.raises(Refused, match=r"n\.pkl"):
        load_generator(file)


@pytest.mark.parametrize(
    ("owner", "said"), [("dnnlib.tflib.network", "TensorFlow"), ("os", "asks for 'os.Network'")]
)
def test_foreign_networks_are_refused_by_name(owner, said, tmp_path):
    (tmp_path / "n.pkl").write_bytes(stream(name(owner, "Network"), pickle.EMPTY_TUPLE, pickle.REDUCE))
    with pytest.raises(Refused, match=said):
        load_generator(tmp_path / "n.pkl")


def test_stylegan3_is_refused_by_name(tmp_path):
    G = random_generator()
    G.synthesis.input = torch.nn.Linear(2, 2)
    write_nvlabs(tmp_path / "n.pkl", G_ema=G)
    with pytest.raises(Refused, match="StyleGAN3"):
        load_generator(tmp_path / "n.pkl")


class Expanded(torch.nn.Module):
    """A tensor with stride 0: four bytes that claim to be four gigabytes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(1).expand(1 << 30))


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_small_files_cannot_fill_the_memory(tmp_path):
    write_nvlabs(tmp_path / "expanded.pkl", G_ema=Expanded())
    with pytest.raises(Refused, match="has only 1 numbers"):
        load_generator(tmp_path / "expanded.pkl")

    buffer = io.BytesIO()
    torch.save(torch.zeros(100_000).storage(), buffer, _use_new_zipfile_serialization=False)
    content = pickle.BINBYTES + len(buffer.getvalue()).to_bytes(4, "little") + buffer.getvalue()
    load = name("torch.storage", "_load_from_bytes")
    again = load + pickle.BINGET + b"\x00" + pickle.TUPLE1 + pickle.REDUCE
    (tmp_path / "repeated.pkl").write_bytes(stream(content, pickle.BINPUT + b"\x00", again * 1000))
    with pytest.raises(Refused, match="again and again"):
        read_pickle(tmp_path / "repeated.pkl")


def test_modules_that_contain_themselves_end(tmp_path):
    G = random_generator()
    G.synthesis.b4.add_module("again", torch.nn.Module())
    write_nvlabs(tmp_path / "n.pkl", G_ema=G)
    content = read_pickle(tmp_path / "n.pkl")
    b4 = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]["b4"]
    b4.state["_modules"]["again"] = b4
    from stylegan_surv.gan.formats.nvlabs import tensors

    with pytest.raises(Refused, match="more than"):
        tensors(content["G_ema"])


def test_missing_network_is_named(tmp_path):
    write_nvlabs(tmp_path / "n.pkl", G_ema=random_generator())
    with pytest.raises(InputError, match=r"holds no D; it holds G_ema"):
        load_discriminator(tmp_path / "n.pkl")
    with pytest.raises(InputError, match=r"holds no encoder; it holds G_ema"):
        load_encoder(tmp_path / "n.pkl")


@pytest.mark.parametrize("fault", ["missing", "shape", "activation", "filter"])
def test_networks_that_are_not_ours_to_run_are_refused(fault, tmp_path):
    G = random_generator()
    if fault == "missing":
        del G.synthesis.b8.conv0.bias
    elif fault == "shape":
        G.synthesis.b8.conv0.bias = torch.nn.Parameter(torch.zeros(5))
    elif fault == "filter":
        G.synthesis.b8.resample_filter = torch.full((4, 4), 1 / 16)
    write_nvlabs(tmp_path / "n.pkl", G_ema=G)
    if fault == "activation":
        (tmp_path / "n.pkl").write_bytes((tmp_path / "n.pkl").read_bytes().replace(b"lrelu", b"sigmo"))
    said = {"activation": "sigmo", "filter": "another filter"}.get(fault, "synthesis.b8.conv0.bias")
    with pytest.raises(InputError, match=said):
        load_generator(tmp_path / "n.pkl")


def test_weights_that_look_like_the_end_of_a_zip_load(tmp_path):
    """It happens: zip readers search the last 64 kB of every tensor for four bytes."""
    G = random_generator()
    end_record = np.frombuffer(b"PK\x05\x06" + bytes(20), dtype="<f4")
    G.mapping.fc0.weight.data.view(-1)[-6:] = torch.from_numpy(end_record.copy())
    write_nvlabs(tmp_path / "n.pkl", G_ema=G)
    assert torch.equal(load_generator(tmp_path / "n.pkl").mapping.fc0.weight, G.mapping.fc0.weight)
