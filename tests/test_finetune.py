"""Fine-tuning: from a base and a folder of chips to a folder of results, for all that users may give."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from training import blobs, small_recipe

from stylegan_surv.cli import cli
from stylegan_surv.cohort import Cohort, read_cohort
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan import Generator, GeneratorConfig
from stylegan_surv.gan.data import ImageSet, Patients, read_chips
from stylegan_surv.gan.formats.checkpoint import load_encoder, load_generator, read_card, save_network
from stylegan_surv.gan.formats.provenance import lineage, patient_key
from stylegan_surv.gan.training import Run, finetune, fresh_networks, runs, train, watch
from stylegan_surv.gan.training.recipe import Recipe, make_recipe, read_recipe
from stylegan_surv.gan.training.runlog import FORMAT

N = 40


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "chips"
    folder.mkdir()
    images = blobs(N)
    for name, pixels in zip(images.ids, images.pixels):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    generator, _, encoder = fresh_networks(small_recipe())
    card = {"licence": "Apache-2.0", "provenance": {"kind": "synthetic"}}
    save_network(generator, tmp_path / "base.safetensors", card)
    save_network(encoder, tmp_path / "encoder.safetensors", card)
    return tmp_path / "base.safetensors"


@pytest.fixture
def cohort(photos: Path) -> Cohort:
    """Two photographs of each of 20 patients."""
    rows = [(f"P{i // 2}", f"p{i:02d}.png", 1.0 + i, i % 2) for i in range(N)]
    table = pd.DataFrame(rows, columns=["patient_id", "photo", "time", "event"])
    table[["time", "event"]] = table.groupby("patient_id")[["time", "event"]].transform("first")
    return read_cohort(table, photos)


def recipe(**changes: Any) -> Recipe:
    settings = {"images": 32, "hold_out": 0.2, "adversarial": None, "features": None, "check_images": 16}
    return small_recipe(**{**settings, **changes})


def tune(base: Path, photos: Path, out: Path, settings: Recipe | None = None, **options: Any) -> Run:
    return finetune(
        base, photos, out, settings or recipe(), encoder=base.with_name("encoder.safetensors"), **options
    )


def test_writes_networks_best_snapshot_and_log(base: Path, photos: Path, tmp_path: Path) -> None:
    run = tune(base, photos, tmp_path / "run")
    assert run.finished
    assert run.images == 32
    assert run.trained_on + run.held_out == N
    for folder in (run.folder, run.folder / "best"):
        load_generator(folder / "generator.safetensors")
        load_encoder(folder / "encoder.safetensors")
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    checks = [line["lpips"] for line in lines if line["kind"] == "check"]
    assert [line["images"] for line in lines if line["kind"] == "check"] == [0, 16, 32]  # 0: the base
    assert min(checks) == run.best["lpips"]
    with Image.open(run.folder / "samples-psi1.png") as sheet:
        assert sheet.size == (16 * 32, 4 * 32)


def test_a_runs_folder_names_its_best_networks(base: Path, photos: Path, tmp_path: Path) -> None:
    run = tune(base, photos, tmp_path / "run")
    best = networks(run.folder / "best")
    assert load_generator(run.folder).card["sha256"] == read_card(run.folder)["sha256"]
    assert torch.equal(load_generator(run.folder).synthesis.b4.const, best["synthesis.b4.const"])
    on = finetune(run.folder, photos, tmp_path / "on", recipe(images=8))  # with its own encoder
    seen = load_generator(on.folder).card["provenance"]
    assert seen["base"] == load_generator(run.folder).card["provenance"]
    assert len(seen["photos"]) == run.trained_on


def test_whom_base_and_encoder_have_seen_is_never_forgotten(base: Path, photos: Path, tmp_path: Path) -> None:
    """Neither the encoder's own patients nor, when `train` goes on from a run, that run's."""
    path = base.with_name("encoder.safetensors")
    of_encoder = {"kind": "photographs", "salt": "s", "patients": ["x"], "photos": []}
    save_network(load_encoder(path), path, {"provenance": of_encoder})
    run = tune(base, photos, tmp_path / "run")
    on = train(recipe(images=8), photos, tmp_path / "on", start=run.folder)
    for folder, steps in ((run.folder, 3), (on.folder, 4)):
        card = load_generator(folder).card
        assert card["licence"] == "Apache-2.0"
        assert of_encoder in (found := list(lineage(card)))
        assert {"kind": "synthetic"} in found
        assert len(found) == steps
        assert found[0]["kind"] == "unnamed photographs"  # no cohort says whose they are


def test_a_discriminator_that_cannot_be_read_is_no_absent_one(photos: Path, tmp_path: Path) -> None:
    generator, discriminator, _ = fresh_networks(settings := recipe(adversarial={}, reconstruction=None))
    (start := tmp_path / "start").mkdir()
    save_network(generator, start / "generator.safetensors", {})
    save_network(discriminator, cut := start / "discriminator.safetensors", {})
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"discriminator\.safetensors"):
        train(settings, photos, tmp_path / "run", start=start)


def test_generator_moves_and_average_starts_from_the_base(base: Path, photos: Path, tmp_path: Path) -> None:
    """The average is the base's at first, without a ramp that would throw it away."""
    run = tune(base, photos, tmp_path / "run", recipe(ema_images=1e9))
    before, after = load_generator(base), load_generator(run.folder / "generator.safetensors")
    torch.testing.assert_close(after.synthesis.b4.const, before.synthesis.b4.const, rtol=0, atol=1e-6)
    moved = tune(base, photos, tmp_path / "other", recipe(ema_images=1))
    assert not torch.equal(
        load_generator(moved.folder / "generator.safetensors").synthesis.b4.const, before.synthesis.b4.const
    )


def test_an_interrupted_run_goes_on(base: Path, photos: Path, tmp_path: Path) -> None:
    calls = iter([False, True, True, True])
    first = tune(base, photos, tmp_path / "run", stop=lambda: next(calls))
    assert not first.finished
    assert first.images == 8
    second = tune(base, photos, tmp_path / "run")
    whole = tune(base, photos, tmp_path / "whole")
    assert second.images == whole.images == 32
    a, b = (load_generator(r.folder / "generator.safetensors").state_dict() for r in (second, whole))
    assert all(torch.equal(a[k], b[k]) for k in a)


def networks(folder: Path) -> dict[str, torch.Tensor]:
    return load_generator(folder / "generator.safetensors").state_dict() | {
        f"E.{k}": v for k, v in load_encoder(folder / "encoder.safetensors").state_dict().items()
    }


def checks(folder: Path) -> list[dict[str, float]]:
    """What the log says about held-out photographs; not how long it took."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if "seconds" not in k} for x in lines if x["kind"] == "check"]


def assert_same_run(a: Path, b: Path) -> None:
    for part in ("", "best"):
        one, other = networks(a / part), networks(b / part)
        assert not [k for k in one if not torch.equal(one[k], other[k])]
    assert checks(a) == checks(b)


def command_line(base: Path, photos: Path, out: Path, settings: Recipe) -> list[str]:
    file = out.with_suffix(".yaml")
    file.write_text(json.dumps(settings.model_dump(mode="json")))
    options = ["--base", base, "--encoder", base.with_name("encoder.safetensors"), "--photos", photos]
    return ["-m", "stylegan_surv", "finetune", *map(str, options), "-o", str(out), "--recipe", str(file)]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_command_goes_on_after_a_signal(
    number: signal.Signals, base: Path, photos: Path, tmp_path: Path
) -> None:
    """SIGTERM finishes the step and saves; kill -9 goes back to the last save. The result is the same run."""
    settings = recipe(images=160)
    command = [sys.executable, *command_line(base, photos, tmp_path / "run", settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count('"check"') >= 3):
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate()
    if number == signal.SIGTERM:
        assert process.returncode == 0
        assert "interrupted, the same command goes on" in said
    else:
        assert process.returncode == -signal.SIGKILL
    assert len(checks(tmp_path / "run")) < 11
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "160 images, finished" in said
    assert_same_run(tmp_path / "run", tune(base, photos, tmp_path / "whole", settings).folder)


def test_full_disk_stops_the_command_and_it_goes_on_later(base: Path, photos: Path, tmp_path: Path) -> None:
    """The kernel refuses to write files of the state's size; what is there stays, and resumes."""
    run, settings = tmp_path / "run", recipe(images=48)
    tune(base, photos, run, settings, stop=iter([False, False, True, True, True]).__next__)
    before = (run / "state.safetensors").read_bytes()
    command = [sys.executable, *command_line(base, photos, run, settings)]
    limit = len(before) // 2
    full = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert full.returncode == 2
    assert "Error: cannot save" in full.stderr
    assert "before is intact" in full.stderr
    assert "Traceback" not in full.stderr
    assert (run / "state.safetensors").read_bytes() == before
    assert not list(run.glob("*.partial"))
    subprocess.run(command, check=True, capture_output=True)
    assert_same_run(run, tune(base, photos, tmp_path / "whole", settings).folder)


@pytest.mark.slow
def test_torchrun_gives_the_same_run(base: Path, photos: Path, tmp_path: Path) -> None:
    settings = recipe(precision="float64", adversarial={"path_weight": 2.0})
    command = command_line(base, photos, tmp_path / "two", settings)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *launch, *command], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    alone = networks(tune(base, photos, tmp_path / "one", settings).folder)
    for name, tensor in networks(tmp_path / "two").items():
        torch.testing.assert_close(tensor, alone[name], rtol=0, atol=1e-6, msg=name)


def test_only_patients_of_the_finetune_set_are_used(
    base: Path, photos: Path, cohort: Cohort, tmp_path: Path
) -> None:
    sets = pd.DataFrame(
        {"patient_id": [f"P{i}" for i in range(20)], "set": ["finetune"] * 14 + ["evaluate"] * 6}
    )
    sets.to_csv(tmp_path / "split.csv", index=False)
    run = tune(base, photos, tmp_path / "run", patients=Patients(cohort, tmp_path / "split.csv"))
    assert run.trained_on + run.held_out == 28
    assert run.trained_on % 2 == 0  # both photographs of a patient are on the same side
    seen = load_generator(run.folder / "generator.safetensors").card["provenance"]
    assert seen["base"] == {"kind": "synthetic"}
    assert seen["kind"] == "photographs"
    listed = [f"P{i}" for i in range(20) if patient_key(f"P{i}", seen["salt"]) in seen["patients"]]
    assert len(listed) == run.trained_on // 2
    assert all(int(p[1:]) < 14 for p in listed)


def test_split_without_cohort_and_strangers_are_refused(
    base: Path, photos: Path, cohort: Cohort, tmp_path: Path
) -> None:
    words = command_line(base, photos, tmp_path / "run", recipe())[2:]
    with pytest.raises(InputError, match="--split does nothing without --cohort"):
        CliRunner().invoke(cli, [*words, "--split", "split.csv"], catch_exceptions=False)
    for path in photos.iterdir():
        path.rename(photos / f"x{path.name}")
    with pytest.raises(InputError, match=r"none of 40 chips .*belongs to a patient"):
        tune(base, photos, tmp_path / "run", patients=Patients(cohort))


def test_sets_of_any_name(base: Path, photos: Path, cohort: Cohort, tmp_path: Path) -> None:
    sets = {"patient_id": [f"P{i}" for i in range(20)], "set": ["train"] * 14 + ["test"] * 6}
    pd.DataFrame(sets).to_csv(tmp_path / "split.csv", index=False)
    split = tmp_path / "split.csv"
    with pytest.raises(InputError, match=r"no set 'finetune'; it has: test, train.*--set"):
        tune(base, photos, tmp_path / "run", patients=Patients(cohort, split))
    of_train = Patients(cohort, split, "train")
    run = tune(base, photos, tmp_path / "run", recipe(images=8), patients=of_train)
    assert run.trained_on + run.held_out == 28


def test_a_discriminator_that_is_missing_is_named_and_a_bad_one_refused(
    base: Path, photos: Path, tmp_path: Path
) -> None:
    gan = recipe(images=8, adversarial={})
    run = tune(base, photos, tmp_path / "run", gan)
    assert "fresh" in run.notes[0]
    assert read_card(run.folder)["notes"] == list(run.notes)
    assert json.loads((run.folder / "log.jsonl").read_text().splitlines()[0])["note"] == run.notes[0]
    beside = base.with_name("base.discriminator.safetensors")
    save_network(fresh_networks(small_recipe(resolution=64))[1], beside, {})
    with pytest.raises(InputError, match=r"is for .*\(64, 3, 0\); the generator has \(32, 3, 0\)"):
        tune(base, photos, tmp_path / "other", gan)
    beside.write_bytes(b"damaged")
    with pytest.raises(Refused):
        tune(base, photos, tmp_path / "other", gan)
    save_network(fresh_networks(small_recipe())[1], beside, {})
    assert tune(base, photos, tmp_path / "other", gan).notes == ()


def test_freeze_needs_the_bases_discriminator(base: Path, photos: Path, tmp_path: Path) -> None:
    frozen = recipe(adversarial={"freeze": 2})
    with pytest.raises(InputError, match="has no discriminator"):
        tune(base, photos, tmp_path / "run", frozen)


def test_encoders_that_are_missing_or_of_another_generator_are_refused(
    base: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"there is none .*--encoder"):
        finetune(base, photos, tmp_path / "run", recipe())
    with pytest.raises(InputError, match=r"is for .*\(64, 10, 256\); the generator has \(32, 8, 16\)"):
        finetune(base, photos, tmp_path / "run", recipe(), encoder="synthetic-64")


def test_patience_stops_a_run_that_gets_no_better(base: Path, photos: Path, tmp_path: Path) -> None:
    still = {"generator": 0, "mapping": 0, "encoder": 0}
    run = tune(base, photos, tmp_path / "run", recipe(images=400, rates=still, patience=2, ema_images=1e9))
    assert run.images == 32  # the base sets the mark, two checks are no better
    assert torch.equal(
        load_generator(run.folder / "best" / "generator.safetensors").synthesis.b4.const,
        load_generator(base).synthesis.b4.const,
    )


def test_without_encoder_held_out_faces_are_inverted(base: Path, photos: Path, tmp_path: Path) -> None:
    plain = recipe(reconstruction=None, adversarial={"path_weight": 0}, images=8, check_images=8)
    run = finetune(base, photos, tmp_path / "run", plain)
    assert run.best["lpips"] > 0
    assert not (run.folder / "encoder.safetensors").exists()


def test_cards_say_whether_the_networks_copy(base: Path, photos: Path, tmp_path: Path) -> None:
    """Of the best snapshot too, which is the one to use; by LPIPS and by face recognition."""
    settings = recipe(hold_out=0.5, images=8, check_images=8, check_identity=True)
    run = tune(base, photos, tmp_path / "run", settings)
    assert run.held_out >= 20
    for folder in (run.folder, run.folder / "best"):
        for part in ("generator", "encoder"):
            found = read_card(folder / f"{part}.safetensors")["memorisation"]
            assert found.keys() == {"lpips", "identity"}
            assert 0 <= found["identity"]["closer"] <= 1
    assert run.memorisation == found
    few = tune(base, photos, tmp_path / "few", recipe(images=8))
    assert few.memorisation == {}
    said = read_card(few.folder / "best" / "generator.safetensors")["memorisation"]
    assert said == f"not measured: {few.held_out} photographs held out, 20 needed"


def test_the_look_for_copies_can_be_interrupted_and_is_not_repeated(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    class Guard:
        def __init__(self, seen: ImageSet, held_out: ImageSet, **options: Any) -> None:
            assert isinstance(seen, ImageSet)  # bytes: as floats they would not fit into memory
            assert isinstance(held_out, ImageSet)
            looks.append(len(held_out))
            options["progress"](1, 2)

        def __call__(self, samples: torch.Tensor) -> Guard:
            return self

        def as_card(self) -> dict[str, Any]:
            return {"lpips": {"closer": 0.0, "isolated": 0.0}}

    monkeypatch.setattr(watch, "Guard", Guard)
    settings = recipe(hold_out=0.5, images=8, check_images=8)
    first = tune(base, photos, tmp_path / "run", settings, stop=lambda: bool(looks))
    assert (first.images, first.finished, first.memorisation) == (8, False, {})
    for _ in range(2):
        again = tune(base, photos, tmp_path / "run", settings)
        assert again.finished
        assert again.memorisation["lpips"]["closer"] == 0
    assert len(looks) == 2


def test_tensorboard_has_the_logs_numbers(base: Path, photos: Path, tmp_path: Path) -> None:
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tune(base, photos, tmp_path / "run", recipe(tensorboard=True, log_images=16))
    events = board.EventAccumulator(str(run.folder / "tensorboard")).Reload()
    logged = {line["images"]: line["lpips"] for line in checks(run.folder)}
    assert {e.step: pytest.approx(e.value, abs=1e-5) for e in events.Scalars("check/lpips")} == logged
    assert len(events.Scalars("train/pixel")) == 2


def test_tensorboard_that_is_not_installed_is_named(
    base: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        tune(base, photos, tmp_path / "run", recipe(tensorboard=True))


def test_log_survives_a_line_that_was_cut_off(base: Path, photos: Path, tmp_path: Path) -> None:
    run = tune(base, photos, tmp_path / "run", stop=iter([False, False, True, True, True]).__next__)
    with open(run.folder / "log.jsonl", "a") as log:
        lost = {"format": FORMAT, "kind": "check", "images": 24, "lpips": 0.0}  # of steps that were lost
        log.write(json.dumps(lost) + "\n")
        log.write('{"kind": "check", "ima')
    tune(base, photos, run.folder)
    assert_same_run(run.folder, tune(base, photos, tmp_path / "whole").folder)


# ------------------------------------------------------------------------------------------------- bad input


def test_bad_files_are_skipped_by_name(photos: Path) -> None:
    (photos / "p03.png").write_bytes(b"not a picture")
    (photos / "p05.png").write_bytes((photos / "p04.png").read_bytes()[:60])
    Image.new("RGB", (40, 32)).save(photos / "p06.png")
    Image.new("RGB", (16, 16)).save(photos / "p07.png")
    Image.new("L", (64, 64), 7).save(photos / "p08.png")  # grey and larger: used
    images = read_chips(photos, 32)
    assert len(images) == N - 4
    reasons = dict(images.skipped)
    assert reasons.keys() == {"p03", "p05", "p06", "p07"}
    assert "unreadable" in reasons["p05"]
    assert reasons["p06"] == "40x32; expected a square of 32 or more"
    assert (images.pixels[images.ids.index("p08")] == 7).all()


def test_a_file_that_is_damaged_in_the_middle_of_a_run(base: Path, photos: Path, tmp_path: Path) -> None:
    """The run has all chips in memory and ends as if nothing had happened; going on later is refused."""
    whole = tune(base, photos, tmp_path / "whole")

    def damage() -> bool:
        (photos / "p04.png").write_bytes(b"not a picture")
        return False

    assert_same_run(tune(base, photos, tmp_path / "run", stop=damage).folder, whole.folder)
    with pytest.raises(InputError, match=r"run with other ids .*the images and recipe of that run"):
        tune(base, photos, tmp_path / "run", recipe(images=48))


def test_another_base_of_the_same_shape_is_another_run(base: Path, photos: Path, tmp_path: Path) -> None:
    """Its card would name a network that the run never began with."""
    tune(base, photos, tmp_path / "run", recipe(images=8))
    save_network(fresh_networks(small_recipe(seed=5))[0], base, {})
    with pytest.raises(InputError, match="run with other base generator"):
        tune(base, photos, tmp_path / "run", recipe(images=8))


def test_bases_and_places_that_cannot_be_used(base: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; expected a folder"):
        tune(base, photos, tmp_path / "file")
    grey = GeneratorConfig(32, 16, 16, mapping_layers=2, channel_base=128, channel_max=8, img_channels=1)
    save_network(Generator(grey), base, {})
    with pytest.raises(InputError, match="1 colour channels; expected an unconditional generator"):
        tune(base, photos, tmp_path / "run")


def test_empty_tiny_and_missing_folders_are_refused(photos: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has 0 usable chips; training needs at least 16"):
        tune(base, tmp_path / "empty", tmp_path / "run")
    with pytest.raises(InputError, match="is not a folder"):
        tune(base, tmp_path / "nowhere", tmp_path / "run")
    for path in sorted(photos.iterdir())[3:]:
        path.unlink()
    with pytest.raises(InputError, match="has 3 usable chips"):
        tune(base, photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_recipes_name_every_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\nimages: -1\nlearning_rate: 1\nadversarial: {r1_gama: 2}\n")
    with pytest.raises(InputError, match=r"3 wrong settings.*images.*adversarial.r1_gama.*learning_rate"):
        read_recipe(tmp_path / "r.yaml")
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "r.yaml").write_text("- name: x\n")
    with pytest.raises(InputError, match="is a list; expected settings"):
        read_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 0, "reconstruction": None}, "samples is 0"),
        ({"samples": 5}, "16 real and 10 drawn images at a time, in groups of 4 and 2"),
        ({"micro_batch": 6}, "6 real and 14 drawn"),
        ({"reconstruction": None, "adversarial": None}, "nothing would be learnt"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_recipe({"name": "x", "images": 8, **changes})


def test_shipped_recipes_have_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel has them inside the package, the sources at the top."""
    monkeypatch.chdir(tmp_path)
    assert read_recipe("finetune", images=9) == read_recipe(CONFIGS / "finetune.yaml", images=9)
    with pytest.raises(InputError, match=r"one of .*finetune-64"):
        read_recipe("finetun")
    inside = tomllib.loads((CONFIGS.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert inside["targets"]["wheel"]["force-include"] == {"configs": "stylegan_surv/configs"}


CONFIGS = Path(__file__).parent.parent / "configs"
TRAINING = sorted(path.name for path in CONFIGS.glob("*.yaml") if "\nmicro_batch:" in path.read_text())


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_recipe_in_configs_is_valid(name: str) -> None:
    found = read_recipe(CONFIGS / name)
    assert found.name == name.removesuffix(".yaml")


def test_clinical_recipes_leave_colour_and_laterality_alone() -> None:
    """Pallor, jaundice and one-sided palsy must survive the augmentation."""
    for name in ("finetune.yaml", "finetune-64.yaml"):
        found = read_recipe(Path(__file__).parent.parent / "configs" / name)
        for ranges in (found.light_augment, found.adversarial and found.adversarial.augment):
            assert not ranges or (not ranges.flip and ranges.hue == ranges.saturation == ranges.tint == 0)


def test_training_from_scratch_goes_on_from_its_own_networks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mapping is fitted to what the encoder has learnt: when a run goes on from another, not before."""
    fitted: list[Path] = []
    monkeypatch.setattr(runs, "match_mapping", lambda trainer: fitted.append(trainer.out))
    settings = recipe(adversarial={"path_weight": 0}, images=16)
    first = train(settings, photos, tmp_path / "a")
    (first.folder / "discriminator.safetensors").unlink()  # then a fresh one is made
    second = train(settings, photos, tmp_path / "b", start=first.folder)
    assert second.finished
    assert (second.folder / "discriminator.safetensors").exists()
    assert fitted == [tmp_path / "b"]
    assert "fresh" in second.notes[0]


def test_training_goes_on_from_a_generator_alone(base: Path, photos: Path, tmp_path: Path) -> None:
    """Without an encoder, where the recipe needs none; the resolution is the generator's, not the recipe's."""
    settings = recipe(reconstruction=None, adversarial={}, images=8, check_images=8, resolution=64)
    run = train(settings, photos, tmp_path / "run", start=base)
    assert load_generator(run.folder).config.resolution == 32
    with pytest.raises(InputError, match="there is none"):
        train(recipe(), photos, tmp_path / "other", start=base)


def test_train_says_what_it_did(photos: Path, tmp_path: Path) -> None:
    from stylegan_surv.cli.train import command

    (photos / "p03.png").write_bytes(b"not a picture")
    (tmp_path / "r.yaml").write_text(json.dumps(recipe().model_dump(mode="json")))
    options = ["--photos", photos, "-o", tmp_path / "run", "--recipe", tmp_path / "r.yaml", "--images", 8]
    done = CliRunner().invoke(command, [*map(str, options), "--seed", "1"])
    assert "8 images, finished" in done.stdout
    assert "skipped p03: unreadable" in done.stderr
    done = CliRunner().invoke(command, [*map(str, options), "--seed", "1", "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["skipped"] == 1


def test_commands_know_other_columns_and_no_device_that_is_not_there(
    base: Path, photos: Path, tmp_path: Path
) -> None:
    rows = [(f"P{i // 2}", f"p{i:02d}.png", 1.0, 1) for i in range(N)]
    table = tmp_path / "t.csv"
    pd.DataFrame(rows, columns=["patient_id", "photo", "os", "event"]).to_csv(table, index=False)
    options = [table, "--column", "time=os", "--sets", "train=.8,test=.2", "-o", tmp_path / "split.csv"]
    done = CliRunner().invoke(cli, ["split", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    settings = recipe(images=8)
    words = [
        *command_line(base, photos, tmp_path / "run", settings)[2:],
        "--cohort",
        table,
        "--column",
        "time=os",
    ]
    words += ["--split", tmp_path / "split.csv", "--set", "train"]
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert "8 images, finished" in done.stdout
    with pytest.raises(InputError, match="the device 'cuda:99' cannot be used here"):
        CliRunner().invoke(cli, [*map(str, words), "--device", "cuda:99"], catch_exceptions=False)


def test_command_line(base: Path, photos: Path, tmp_path: Path) -> None:
    from stylegan_surv.cli.finetune import command

    settings = tmp_path / "r.yaml"
    settings.write_text(json.dumps(recipe().model_dump(mode="json")))
    encoder = str(base.with_name("encoder.safetensors"))
    options = [
        "--base",
        base,
        "--photos",
        photos,
        "-o",
        tmp_path / "run",
        "--recipe",
        settings,
        "--images",
        8,
    ]
    done = CliRunner().invoke(command, [*map(str, options), "--encoder", encoder, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["images"] == 8
    assert record["finished"] is True
