"""Where latents come from: written and read, compared in one place, and broken files refused with one message."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from stylegan_surv.attribute import HealthAttribute, load_attribute, save_attribute
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion import EmbedSettings, Latents, Origin
from stylegan_surv.inversion.dataset import METADATA_FILE, read_metadata, schema
from stylegan_surv.inversion.origin import Network, check_comparable
from stylegan_surv.study import predict
from stylegan_surv.survival import CoxRidge, Outcome
from stylegan_surv.survival.engines.persist import save_model
from stylegan_surv.survival.engines.prognosis import Prognosis

ORIGIN = Origin(
    2,
    3,
    Network("g", "ab" * 32),
    Network(None, "cd" * 32),
    "hybrid",
    EmbedSettings(batch=4, schedule={"steps": 7}, label=1).decide(),
    {"method": 2, "size": 64},
    {"generator": {"kind": "synthetic"}, "encoder": None},
    noise=5,
)


def test_what_is_written_is_read() -> None:
    written = json.loads(json.dumps(ORIGIN.to_metadata()))
    assert Origin.from_metadata(written) == ORIGIN
    assert Origin.from_metadata({"num_ws": 2, "w_dim": 3}) == Origin(2, 3)
    assert Origin.from_metadata({**written, "site": "the user's own"}) == ORIGIN


def test_latents_of_other_networks_are_refused_and_what_is_unknown_fits() -> None:
    check_comparable(ORIGIN, replace(ORIGIN, method="encoder", settings=None))
    check_comparable(ORIGIN, Origin(2, 3))
    for changed in (
        {"generator": Network("g", "ef" * 32)},
        {"encoder": Network(None, "ef" * 32)},
        {"w_dim": 4},
    ):
        with pytest.raises(
            Refused, match=r"fitted to latents with \w+ = .*, not .*Embed the photographs with"
        ):
            check_comparable(ORIGIN, replace(ORIGIN, **changed))


def test_latents_of_faces_cut_otherwise_are_refused() -> None:
    """A cut that names no landmarks is one by dlib's 68 points; the size of the chips does not matter."""
    check_comparable(ORIGIN, replace(ORIGIN, cut={"method": 2, "size": 128, "landmarks": "dlib68"}))
    check_comparable(ORIGIN, replace(ORIGIN, cut=None))
    for cut in ({"method": 3, "size": 64}, {"method": 2, "size": 64, "landmarks": "mesh"}):
        with pytest.raises(Refused, match="method 2 with landmarks dlib68, and these were cut by"):
            check_comparable(ORIGIN, replace(ORIGIN, cut=cut))


def test_a_model_scores_latents_of_its_own_networks_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, names = rng.normal(size=(40, 2, 3)).astype(np.float32), [str(i) for i in range(40)]
    outcome = Outcome(np.array(names), rng.exponential(size=40) + 0.01, rng.random(40) < 0.7)
    model = CoxRidge(alpha=5.0, alphas=(5.0,)).fit(w.reshape(40, -1), outcome.y)
    photo = Prognosis("photo").fit(w.reshape(40, -1), outcome, fitted=model)
    save_model(photo, tmp_path / "model/photo", card={"latents": ORIGIN.to_metadata(), "horizons": []})
    latents = Latents.from_arrays(w, names, names, ORIGIN.to_metadata())
    risk = predict(tmp_path / "model", latents)["risk"]
    other = Latents.from_arrays(w, names, names, {**latents.metadata, "generator_sha256": "0f" * 32})
    with pytest.raises(Refused, match="generator_sha256 = abababababab…, not 0f0f0f0f0f0f…"):
        predict(tmp_path / "model", other)
    assert predict(tmp_path / "model", other, other_networks=True)["risk"].equals(risk)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    Latents.from_arrays(np.ones((2, 2, 3)), ["a", "b"], metadata={"method": "m"}).save(tmp_path / "l")
    return tmp_path / "l"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged"),
        ("[]", "the whole is"),
        ("null", "the whole is"),
        ('"text"', "the whole is"),
        ('{"num_ws": 2}', "format"),
        ('{"num_ws": 2, "format": 1}', "w_dim is missing"),
        ('{"num_ws": 2, "w_dim": "x", "format": 1}', "w_dim is 'x'"),
        ('{"num_ws": 0, "w_dim": 3, "format": 1}', "num_ws is 0"),
        ('{"num_ws": 1e400, "w_dim": 3, "format": 1}', "num_ws is inf"),
        ('{"num_ws": 2, "w_dim": 3, "format": 1, "settings": []}', "settings is"),
        ('{"num_ws": 2, "w_dim": 3, "format": 1, "settings": {"schedule": {"steps": 0}}}', "steps = 0"),
        ('{"num_ws": 2, "w_dim": 3, "format": 1, "columns": {"x": 3}}', "columns.x is 3"),
        ('{"num_ws": 2, "w_dim": 3, "format": 1, "columns": {"x": "magic"}}', "columns.x the type 'magic'"),
        (
            '{"num_ws": 2, "w_dim": 3, "format": 0}',
            "has the format 0; expected 1. Embed the photographs again",
        ),
        ('{"num_ws": 2, "w_dim": 3, "format": 2}', "A newer stylegan-surv has written it: upgrade"),
        ("\udc80", "is damaged"),
    ],
)
def test_a_broken_dataset_is_one_message(dataset: Path, text: str, said: str) -> None:
    (dataset / METADATA_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as refused:
        Latents.open(dataset)
    assert METADATA_FILE in str(refused.value)
    assert said in str(refused.value)


def test_latents_of_another_length_than_the_metadata_say_are_named(dataset: Path) -> None:
    record = read_metadata(dataset)
    (dataset / METADATA_FILE).write_text(json.dumps({**record, "w_dim": 4}))
    with pytest.raises(InputError, match=r"part-000000.parquet has .*\[6\] under 'w_plus'; expected .*\[8\]"):
        Latents.open(dataset)
    assert schema(2, 3).field("w_plus").type.list_size == 6


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    shape = (2, 3)
    attribute = HealthAttribute(
        np.ones(shape), None, None, np.zeros(shape), 1.0, origin=ORIGIN, latents=tmp_path / "l"
    )
    save_attribute(attribute, tmp_path)
    assert load_attribute(tmp_path).origin == ORIGIN
    return tmp_path


def rewrite(
    folder: Path, about: Any = None, *, number: str | None = "1", **arrays: np.ndarray | None
) -> None:
    """The attribute's file with something else in it."""
    from safetensors import safe_open

    path = folder / "direction.safetensors"
    with safe_open(path, "np") as file:
        written = dict(file.metadata())
    kept = {name: array for name, array in {**load_file(path), **arrays}.items() if array is not None}
    metadata = {"attribute": written["attribute"] if about is None else about}
    save_file(kept, path, {**metadata, **({} if number is None else {"format": number})})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pattern": None}, "holds no 'pattern'"),
        ({"mean": None}, "holds no 'mean'"),
        ({"pattern": np.full((2, 3), np.nan, np.float32)}, "'pattern' holds numbers that are not finite"),
        ({"coefficient": np.full((2, 3), np.inf, np.float32)}, "'coefficient' holds numbers"),
        ({"mean": np.zeros((2, 2), np.float32)}, r"'mean' has shape \[2, 2\]"),
        ({"pattern": np.zeros(6, np.float32)}, r"has shape \[6\]"),
        ({"about": "["}, "is damaged"),
        ({"about": "[]"}, "the whole is"),
        ({"about": "{}"}, "risk_sd is missing"),
        ({"about": '{"risk_sd": NaN}'}, "risk_sd is nan"),
        ({"about": '{"risk_sd": 1, "origin": {"num_ws": 2}}'}, "w_dim is missing"),
        ({"number": None}, "has the format None"),
        ({"number": "0"}, "has the format 0; expected 1. Fit the study again"),
        ({"number": "9"}, "A newer stylegan-surv has written it: upgrade"),
    ],
)
def test_a_broken_attribute_is_one_message(saved: Path, changed: dict[str, Any], said: str) -> None:
    rewrite(saved, **changed)
    with pytest.raises(InputError, match=said) as refused:
        load_attribute(saved)
    assert "direction.safetensors" in str(refused.value)


def test_a_file_that_is_no_attribute_is_one_message(saved: Path) -> None:
    (saved / "direction.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match="is damaged"):
        load_attribute(saved)
