"""The commands ``embed``, ``latents`` and ``train-encoder``: exit codes and what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stylegan_surv.cli import main
from stylegan_surv.faces.chips import Chips
from stylegan_surv.gan import Encoder, EncoderConfig, Generator, GeneratorConfig, load_encoder, save_network
from stylegan_surv.gan.data import hold_out
from stylegan_surv.gan.formats.provenance import intersect
from stylegan_surv.inversion import Latents

CONFIG = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)
SHAPE = EncoderConfig(32, CONFIG.num_ws, CONFIG.w_dim, channel_base=256, channel_max=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny generator, its encoder, six chips (one failed) and a clinical table."""
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    save_network(Generator(CONFIG), folder / "tiny.safetensors", {"name": "tiny"})
    save_network(Encoder(SHAPE), folder / "tiny.encoder.safetensors", {"name": "tiny"})
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(6)]
    chips = Chips.create(folder / "chips", pictures, [f"p{i}" for i in range(6)])
    table = chips.table
    table.loc[2, ["status", "error"]] = ["failed", "no face found"]
    table.to_parquet(folder / "chips" / "_chips.parquet")
    patients = pd.DataFrame({"patient_id": list("abcdef"), "photo": [f"p{i}.png" for i in range(6)]})
    patients = patients.assign(time=range(1, 7), event=[0, 1] * 3, sex=list("FFMMFM"))
    patients.to_csv(folder / "clinical.csv", index=False)
    return folder


def run(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["stylegan-surv", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def embed(capsys, monkeypatch, place, *more: object, photos="chips", out="latents") -> tuple[int, str, str]:
    fixed = (
        "embed",
        "--photos",
        place / photos,
        "--generator",
        place / "tiny.safetensors",
        "-o",
        place / out,
    )
    return run(capsys, monkeypatch, *fixed, "--method", "encoder", *more)


def test_embed_lists_failures_and_exits_with_1(place, capsys, monkeypatch):
    code, out, _ = embed(capsys, monkeypatch, place, "--cohort", place / "clinical.csv", "--json")
    record = json.loads(out.strip().splitlines()[-1])
    assert code == 1
    assert (record["photos"], record["patients"]) == (5, 5)
    assert list(record["failed"].values()) == ["no face found"]
    assert record["lpips"] > 0
    code, out, _ = run(capsys, monkeypatch, "latents", "info", place / "latents")
    assert code == 0
    assert "5 photographs of 5 patients, 1 failed" in out
    info = ("latents", "info", place / "latents", "--cohort", place / "clinical.csv", "--by", "sex", "--json")
    groups = json.loads(run(capsys, monkeypatch, *info)[1])["groups"]
    assert {row["sex"]: row["photos"] for row in groups} == {"F": 3, "M": 3}
    assert {row["sex"]: row["failed"] for row in groups} == pytest.approx({"F": 0, "M": 1 / 3})


def test_a_wrong_request_exits_with_2_and_one_message(place, capsys, monkeypatch):
    code, out, err = embed(capsys, monkeypatch, place, photos="nowhere")
    assert (code, out) == (2, "")
    assert "There is no folder" in err
    assert "Traceback" not in err
    embed(capsys, monkeypatch, place, out="other")
    code, _, err = embed(capsys, monkeypatch, place, "--seed", 1, out="other")
    assert code == 2
    assert "seed = 0, not 1" in err


def test_what_cannot_be_written_is_said_before_the_work(place, capsys, monkeypatch, tmp_path):
    for sheet in (tmp_path / "nowhere" / "s.png", tmp_path / "s.doc"):
        code, _, err = embed(capsys, monkeypatch, place, "--sheet", sheet, out="unwritten")
        assert (code, (place / "unwritten").exists()) == (2, False)
        assert "cannot be written" in err
    embed(capsys, monkeypatch, place, out="inside")
    for out in (place / "inside" / "x.parquet", tmp_path / "nowhere" / "x.csv"):
        code, _, err = run(capsys, monkeypatch, "latents", "export", place / "inside", out)
        assert code == 2
        assert "not in the dataset itself" in err


def test_the_dial_is_on_the_command_line(place, capsys, monkeypatch):
    common = ("embed", "--photos", place / "chips", "--generator", place / "tiny.safetensors")
    dial = (
        "--steps",
        2,
        "--target",
        0.01,
        "--penalty",
        0.5,
        "--space",
        "w",
        "--start",
        "mean",
        "--passes",
        1,
    )
    assert run(capsys, monkeypatch, *common, "-o", place / "dialled", *dial)[0] == 1
    settings = Latents.open(place / "dialled").metadata["settings"]
    wanted = {"steps": 2, "target": 0.01, "penalty": 0.5, "space": "w", "start": "mean", "pixel": 10.0}
    assert {name: settings["schedule"][name] for name in wanted} == wanted
    assert settings["passes"] == 1
    assert (
        run(capsys, monkeypatch, *common, "-o", place / "on", "--steps", 1, "--start", place / "dialled")[0]
        == 1
    )
    assert "start_sha256" in Latents.open(place / "on").metadata
    code, _, err = embed(capsys, monkeypatch, place, "--steps", 2, out="never")
    assert code == 2
    assert "A schedule belongs to the projector" in err


def test_latents_are_verified_compacted_and_exported(place, capsys, monkeypatch):
    embed(capsys, monkeypatch, place, "--batch", 1, out="many")
    code, out, _ = run(capsys, monkeypatch, "latents", "verify", place / "many", "--photos", place / "chips")
    assert (code, out) == (0, "All shards and rows are sound.\n")
    pd.read_csv(place / "clinical.csv").iloc[:3].to_csv(place / "half.csv", index=False)
    part = ("--cohort", place / "half.csv", "--photos", place / "chips")
    embed(capsys, monkeypatch, place, *part[:2], out="half")
    assert run(capsys, monkeypatch, "latents", "verify", place / "half", *part)[0] == 0
    assert (
        "has not been embedded" in run(capsys, monkeypatch, "latents", "verify", place / "half", *part[2:])[1]
    )
    code, out, _ = run(capsys, monkeypatch, "latents", "compact", place / "many")
    assert "1 file" in out
    for name in ("x.npz", "x.csv", "x.parquet"):
        code, out, _ = run(capsys, monkeypatch, "latents", "export", place / "many", place / name)
        assert (code, out.split()[0]) == (0, "5")
    stored = np.load(place / "x.npz", allow_pickle=False)
    wide = pd.read_csv(place / "x.csv").set_index("photo_id").loc[stored["photo_id"]]
    columns = [name for name in wide if name.startswith("w0")]
    assert len(columns) == CONFIG.num_ws * CONFIG.w_dim
    assert np.allclose(wide[columns].to_numpy(np.float32), stored["w_plus"].reshape(5, -1))
    assert len(pd.read_parquet(place / "x.parquet")) == 5


def test_seeds_tell_chance_from_the_photograph(place, capsys, monkeypatch):
    from stylegan_surv.inversion import EmbedSettings, Schedule
    from stylegan_surv.inversion import embed as embed_photos

    common = {"generator": place / "tiny.safetensors"}
    schedule = Schedule(steps=3, exploration=0.5, penalty=0.0)
    embed_photos(
        place / "chips", out=place / "explored", settings=EmbedSettings(schedule=schedule, batch=2), **common
    )
    embed_photos(place / "chips", out=place / "certain", settings=EmbedSettings("encoder", batch=2), **common)
    found = {}
    for name in ("explored", "certain"):
        options = (
            "--photos",
            place / "chips",
            "--generator",
            place / "tiny.safetensors",
            "--sample",
            4,
            "--json",
        )
        code, out, _ = run(capsys, monkeypatch, "latents", "seeds", place / name, *options)
        found[name] = json.loads(out)
        assert (code, found[name]["photos"], found[name]["seeds"]) == (0, 4, 3)
    assert (found["certain"]["within"], found["certain"]["reliability"]) == pytest.approx((0, 1), abs=1e-9)
    assert found["explored"]["within"] > 0
    assert 0 < found["explored"]["reliability"] < 1
    code, _, err = run(
        capsys, monkeypatch, "latents", "seeds", place / "certain", "--photos", place / "chips"
    )
    assert code == 2
    assert "another generator" in err
    torch.manual_seed(1)
    save_network(Encoder(SHAPE), place / "other.encoder.safetensors", {"name": "other"})
    code, _, err = run(
        capsys,
        monkeypatch,
        "latents",
        "seeds",
        place / "certain",
        *options,
        "--encoder",
        place / "other.encoder.safetensors",
    )
    assert code == 2
    assert "another encoder" in err
    assert (
        run(capsys, monkeypatch, "latents", "seeds", place / "certain", *options, "--device", "cpu")[0] == 0
    )


def test_verify_names_what_is_wrong(place, capsys, monkeypatch, tmp_path):
    for path in (place / "chips").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    embed(capsys, monkeypatch, place, "--batch", 1, photos="chips", out="checked")
    shard = next((place / "checked").glob("part-*.parquet"))
    spare = place / "checked" / "part-000099.parquet"
    spare.write_bytes(shard.read_bytes())
    table = pd.read_parquet(tmp_path / "_chips.parquet")
    table.loc[3, "source_sha256"] = "changed"
    table.to_parquet(tmp_path / "_chips.parquet")
    code, out, _ = run(capsys, monkeypatch, "latents", "verify", place / "checked", "--photos", tmp_path)
    assert code == 1
    assert "stored 2 times" in out
    assert "p3 has changed" in out
    spare.write_bytes(shard.read_bytes()[:100])
    code, out, _ = run(capsys, monkeypatch, "latents", "verify", place / "checked")
    assert code == 1
    assert "part-000099.parquet is damaged" in out


def test_the_contact_sheet_is_written_on_request_only(place, capsys, monkeypatch, tmp_path):
    embed(capsys, monkeypatch, place, "--sheet", tmp_path / "sheet.png", out="sheeted")
    assert Image.open(tmp_path / "sheet.png").size == (1024, 2 * 146)


def test_train_encoder_learns_from_the_patients_of_one_set(place, capsys, monkeypatch, tmp_path):
    (tmp_path / "tiny.safetensors").write_bytes((place / "tiny.safetensors").read_bytes())
    target = tmp_path / "tiny.encoder.safetensors"
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(24)]
    Chips.create(tmp_path / "chips", pictures, [f"q{i}" for i in range(24)])
    patients = [f"P{i}" for i in range(24)]
    rows = [f"P{i},q{i}.png,{i + 1},1" for i in range(24)]
    (tmp_path / "clinical.csv").write_text("\n".join(["patient_id,photo,time,event", *rows]))
    sets = [f"P{i},{'finetune' if i < 20 else 'evaluate'}" for i in range(24)]
    (tmp_path / "split.csv").write_text("\n".join(["patient_id,set", *sets]))
    options = ("--images", 16, "--batch", 8, "--photos", tmp_path / "chips", "--hold-out", 0.2, "--json")
    options = (*options, "--cohort", tmp_path / "clinical.csv", "--split", tmp_path / "split.csv")
    made = ("train-encoder", "--generator", tmp_path / "tiny.safetensors", "-o", target, *options)
    code, out, _ = run(capsys, monkeypatch, *made)
    assert code == 0
    assert json.loads(out)["images"] == 16
    card = load_encoder(target).card
    learnt_from, aside = hold_out(patients[:20], 0.2)
    assert aside
    table = pd.DataFrame({"patient_id": patients, "photo_id": patients})
    assert intersect(table, card).patients == tuple(patients[i] for i in learnt_from)
    assert len(card["provenance"]["photos"]) == len(learnt_from)
    code, _, said = run(capsys, monkeypatch, *made, "--set", "nobody")
    assert code == 2
    assert "evaluate, finetune" in said
