"""Every random number of training comes from a named stream of the run's seed: two processes make the same bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training import blobs, small_recipe, small_trainer

from stylegan_surv.gan import Generator, GeneratorConfig, save_network
from stylegan_surv.gan.networks import FeatureCritic
from stylegan_surv.gan.training import Streams, drawn_from, fresh_networks
from stylegan_surv.gan.training.streams import key

SETTINGS = {"images": 24, "check_images": 16, "hold_out": 0.2, "textures": {"projections": 4}}
RANK = """
import sys
from pathlib import Path
import torch.distributed as dist
from safetensors.torch import save_file
rank, port, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
from stylegan_surv.gan.training import parallel
if sys.argv[4] == "alone":
    parallel.share = lambda networks: None
from training import everything, small_trainer
seed = rank if sys.argv[4] == "shared" else 0
save_file(everything(small_trainer(out / str(rank), seed=seed)), out / f"{rank}.safetensors")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chips, a recipe with every part, a base with its encoder and without a discriminator, a small generator."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "chips").mkdir()
    images = blobs(40)
    for name, pixels in zip(images.ids, images.pixels):
        Image.fromarray(pixels).save(folder / "chips" / f"{name}.png")
    (folder / "r.yaml").write_text(json.dumps(small_recipe(**SETTINGS).model_dump(mode="json")))
    generator, _, encoder = fresh_networks(small_recipe())
    save_network(generator, folder / "base.safetensors", {})
    save_network(encoder, folder / "base.encoder.safetensors", {})
    shape = GeneratorConfig(32, z_dim=4, w_dim=4, mapping_layers=1, channel_base=256, channel_max=8)
    with drawn_from(1):
        save_network(Generator(shape), folder / "small.safetensors", {})
    return folder


def command(name: str, files: Path, out: Path) -> list[str]:
    words = {
        "train": ["--recipe", files / "r.yaml", "-o", out],
        "finetune": ["--recipe", files / "r.yaml", "--base", files / "base.safetensors", "-o", out],
        "train-encoder": [
            "--generator",
            files / "small.safetensors",
            "--images",
            32,
            "--batch",
            8,
            "--override",
            "precision=float32",
            "-o",
            out / "e.safetensors",
        ],
    }[name]
    return [sys.executable, "-m", "stylegan_surv", name, "--photos", *map(str, [files / "chips", *words])]


@pytest.mark.parametrize("name", ["train", "finetune", "train-encoder"])
def test_two_processes_of_one_command_make_the_same_networks(name: str, files: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for out in runs:
        out.mkdir()
        subprocess.run(command(name, files, out), check=True, capture_output=True)
    made = sorted(path.relative_to(runs[0]) for path in runs[0].rglob("*.safetensors"))
    assert made
    for path in made:
        if path.name != "state.safetensors":
            assert tensor_bytes(runs[0] / path) == tensor_bytes(runs[1] / path), path
        else:  # its metadata says how long the run took
            a, b = (load_file(run / path) for run in runs)
            assert a.keys() == b.keys()
            assert not [k for k in a if not torch.equal(a[k], b[k])]


def tensor_bytes(path: Path) -> bytes:
    """A checkpoint without its card, which says how much processor time the run took."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_all_processes_begin_with_the_same_parameters(how: str, tmp_path: Path) -> None:
    """By their seeds alone; and, where even those differed, because the first process gives the others its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(port), str(tmp_path), how],
            env={**os.environ, "PYTHONPATH": path},
            cwd=Path(__file__).parent.parent,
        )
        for rank in (0, 1)
    ]
    assert [p.wait(timeout=300) for p in pair] == [0, 0]
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert {name.split("/")[0] for name in one} >= {"G", "G_ema", "E", "E_ema", "D", "C"}
    assert one.keys() == other.keys()
    assert not [k for k in one if not torch.equal(one[k], other[k])]


def test_the_critic_does_not_ask_the_global_stream() -> None:
    torch.manual_seed(1)
    one = FeatureCritic(3).state_dict()
    torch.manual_seed(2)
    other = FeatureCritic(3).state_dict()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert not torch.equal(one["heads.0.conv.weight"], FeatureCritic(4).state_dict()["heads.0.conv.weight"])


def test_networks_leave_the_global_stream_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with drawn_from(0):
        torch.rand(7)
    fresh_networks(small_recipe())
    assert torch.equal(torch.rand(3), expected)


def test_streams_have_keys_of_their_own() -> None:
    s = Streams(0)
    seeds = [s.networks, s.critic_heads, s.mapping_fit, s.averaging(0), s.averaging(1)]
    seeds += [s.micro_batch(k) for k in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert Streams(1).micro_batch(0) != s.micro_batch(0) == key(0, 0)


def test_states_and_logs_of_another_format_are_refused(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    from stylegan_surv.errors import InputError

    trainer = small_trainer(tmp_path)
    trainer.save()
    file = tmp_path / "state.safetensors"
    with safe_open(file, "pt") as opened:
        numbers = opened.metadata()
    save_file(load_file(file), file, metadata={**numbers, "format": "0"})
    with pytest.raises(InputError, match="training state of format 0; this version reads format 1"):
        small_trainer(tmp_path).resume()
    trainer.save()
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "images": 0}\n')
    with pytest.raises(InputError, match="records of format None; this version reads format 1"):
        small_trainer(tmp_path).resume()
