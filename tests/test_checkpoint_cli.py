"""``convert`` and ``zoo`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import random_discriminator, random_generator, write_nvlabs
from click.testing import CliRunner

from stylegan_surv.cli import cli, main
from stylegan_surv.errors import InputError
from stylegan_surv.gan import load_discriminator, load_generator
from stylegan_surv.gan.formats import zoo

HERE = Path(__file__).parent / "data" / "checkpoints"


def run(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def pkl(tmp_path):
    write_nvlabs(
        tmp_path / "network-snapshot-000200.pkl",
        G_ema=random_generator(0),
        G=random_generator(1),
        D=random_discriminator(),
    )
    return tmp_path / "network-snapshot-000200.pkl"


def test_convert_prints_a_card(pkl, tmp_path):
    said = run("convert", pkl, tmp_path / "out.safetensors")
    for expected in (
        "G_ema, 16 px, skip",
        "mapping_layers 2",
        "200 thousand images",
        "faces-16.zip",
        "non-commercial",
    ):
        assert expected in said
    assert load_generator(tmp_path / "out.safetensors").card["kimg"] == 200


def test_every_network_of_a_file_can_be_converted(pkl, tmp_path):
    run("convert", pkl, tmp_path / "G.safetensors", "--what", "G")
    raw = load_generator(tmp_path / "G.safetensors").synthesis.b4.const
    assert torch.equal(raw, random_generator(1).synthesis.b4.const)
    card = json.loads(run("convert", pkl, tmp_path / "D.safetensors", "--what", "D", "--json"))
    assert card["config"]["architecture"] == "resnet"
    assert load_discriminator(tmp_path / "D.safetensors").config.resolution == 16


@pytest.mark.parametrize("layout", ["ours", "rosinality"])
def test_a_folder_that_is_not_there(pkl, tmp_path, layout):
    with pytest.raises(InputError, match=r"cannot save .*nowhere/n\.pt"):
        run("convert", pkl, tmp_path / "nowhere" / "n.pt", "--to", layout)


def test_to_rosinality_and_back(pkl, tmp_path):
    said = run("convert", pkl, tmp_path / "n.pt", "--to", "rosinality")
    assert "n_mlp=2" in said
    assert load_discriminator(tmp_path / "n.pt").config.resolution == 16  # it came along
    run("convert", tmp_path / "n.pt", tmp_path / "n.safetensors")
    again, first = load_generator(tmp_path / "n.safetensors"), random_generator()
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), first.state_dict().values()))


def test_a_discriminator_that_rosinality_cannot_hold_is_left_out_and_said(tmp_path):
    write_nvlabs(tmp_path / "n.pkl", G_ema=random_generator(), D=random_discriminator(architecture="orig"))
    said = run("convert", tmp_path / "n.pkl", tmp_path / "n.pt", "--to", "rosinality")
    assert "discriminator was left out" in said
    assert "architecture 'orig'" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{pkl}", "{out}", "--what", "D", "--to", "rosinality"], "only beside its generator"),
        (["{pkl}", "{pkl}"], "give another name"),
        (["{evil}", "{out}"], "nothing in it was run"),
        (["nowhere.pkl", "{out}"], "neither a file nor"),
    ],
)
def test_mistakes_give_one_message_and_exit_code_2(words, said, pkl, tmp_path, monkeypatch, capsys):
    names = {"pkl": pkl, "out": tmp_path / "out", "evil": HERE / "evil_global.pkl"}
    monkeypatch.setattr("sys.argv", ["stylegan-surv", "convert", *(w.format(**names) for w in words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.startswith("Error:")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_zoo_lists_what_is_bundled():
    said = run("zoo")
    assert "synthetic-64 (generator, 64 px" in said
    assert "no real person" in said
    listed = json.loads(run("zoo", "--json"))["networks"]
    for one in listed:
        assert one["sha256"] == zoo.entry(one["name"], one["kind"]).sha256
    assert json.loads(run("zoo", "synthetic-64"))["config"]["resolution"] == 64


@pytest.mark.parametrize("entry", list(zoo.entries()), ids=lambda e: f"{e.name}-{e.kind}")
def test_every_bundled_network_has_a_complete_card(entry):
    assert entry.licence == "Apache-2.0"
    assert entry.seen == "no real person"
    assert "not stated" not in entry.data
    assert entry.megabytes <= 12
    assert entry.kind in ("generator", "encoder")


def test_names_that_are_not_in_the_zoo():
    with pytest.raises(InputError, match=r"no bundled encoder 'ffhq'; there are: .*synthetic-64"):
        zoo.entry("ffhq", "encoder")
