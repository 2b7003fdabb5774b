"""Settings on the command line: overrides that take effect, options that would do nothing, mistyped names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from training import small_recipe

from stylegan_surv.cli import cli
from stylegan_surv.errors import InputError
from stylegan_surv.gan.training import make_recipe, read_recipe
from stylegan_surv.inversion.train_encoder import EncoderSettings, encoder_settings


def run(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_overrides_replace_settings_and_whole_groups() -> None:
    changes = ["adversarial={weight: 2, r1_gamma: 5}", "adversarial.weight=0.5", "features=null", "images=64"]
    made = read_recipe("finetune-64", changes)
    assert made.adversarial is not None
    assert (made.adversarial.weight, made.adversarial.r1_gamma, made.features, made.images) == (
        0.5,
        5,
        None,
        64,
    )
    same = read_recipe("finetune-64")
    assert (
        made.model_copy(update={k: getattr(same, k) for k in ("adversarial", "features", "images")}) == same
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "adversarial.weight=1",
            r"adversarial.weight would do nothing: adversarial is null .*adversarial=\{\}",
        ),
        ("features.wieght=1", "no setting features.wieght; did you mean weight"),
        ("adverserial=null", "no setting adverserial; did you mean adversarial"),
        ("images.x=3", "images is no group of settings"),
        ("images", "expected NAME=VALUE"),
        ("features.weight=-1", "features.weight: .*greater than or equal to 0"),
        ("features.weight={", "not YAML"),
    ],
)
def test_overrides_that_cannot_be_are_said(change: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_recipe("finetune-64", [change])


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="images is given twice"):
        read_recipe("finetune-64", ["images=5"], images=6)
    with pytest.raises(InputError, match="rate is given twice"):
        encoder_settings(["rate=0.1"], rate=0.2)


def test_a_mistyped_setting_names_itself_and_not_the_recipe() -> None:
    wrong = small_recipe().model_dump() | {"adverserial": {"weight": 1}, "adversarial": {"r1_gama": 1}}
    del wrong["name"]
    with pytest.raises(InputError) as refusal:
        make_recipe(wrong)
    message = str(refusal.value)
    assert "no setting adverserial; did you mean adversarial" in message
    assert "no setting adversarial.r1_gama; did you mean r1_gamma" in message
    assert "name: Field required" in message
    assert len(message) < 300


def test_train_takes_overrides(tmp_path: Path) -> None:
    from PIL import Image
    from training import blobs

    (tmp_path / "chips").mkdir()
    images = blobs(20)
    for name, pixels in zip(images.ids, images.pixels):
        Image.fromarray(pixels).save(tmp_path / "chips" / f"{name}.png")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(json.dumps(small_recipe(images=160).model_dump(mode="json")))
    words = ["train", "--photos", tmp_path / "chips", "-o", tmp_path / "run", "--recipe", recipe]
    off = ["--override", "features=null", "--override", "adversarial=null", "--override", "images=8"]
    run(*words, *off)
    (record,) = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()][:1]
    assert record["images"] == 8
    assert record["format"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "train"], "--set does nothing without --split"),
        (["--split", "s.csv"], "--split does nothing without --cohort"),
        (["--column", "time=os"], "--column does nothing without --cohort"),
        (["--encoder", "e", "--override", "reconstruction=null"], "--encoder does nothing"),
    ],
)
def test_options_of_finetune_that_do_nothing_are_refused(options: list[str], said: str) -> None:
    recipe = ["--recipe", "finetune-64", "--override", "features={}"]
    with pytest.raises(InputError, match=said):
        run("finetune", "--photos", "chips", "-o", "run", *recipe, *options)


@pytest.mark.parametrize("option", ["--cohort=t.csv", "--hold-out=0.1", "--drop-captions", "--real=0.5"])
def test_options_of_train_encoder_that_need_photographs(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{option.split('=')[0]} does nothing without --photos"):
        run("train-encoder", "-o", tmp_path / "e.safetensors", option)


def test_encoder_settings_are_checked() -> None:
    made = encoder_settings(["camera=[0, 0.5]", "lpips=0.3"], images=64, batch=8)
    assert made == EncoderSettings(images=64, batch=8, camera=(0, 0.5), lpips=0.3)
    with pytest.raises(InputError, match="no setting lpip; did you mean lpips"):
        encoder_settings(["lpip=1"])
    with pytest.raises(InputError, match=r"precision: .*'float32' or 'bf16'"):
        encoder_settings(["precision=fp16"])
