"""Provenance: a leak is found by identifier and by photograph, through every base, and never denied on a guess."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from stylegan_surv.faces import Chips
from stylegan_surv.faces.duplicates import hash_distances, perceptual_hash
from stylegan_surv.gan import load_generator
from stylegan_surv.gan.formats.provenance import (
    SAME_PHOTO,
    chip_hashes,
    intersect,
    patient_key,
    record,
)
from stylegan_surv.gan.grading.measures import sample


@pytest.fixture(scope="module")
def chips():
    images = sample(load_generator("synthetic-64"), 12).add(1).mul(127.5).round().byte()
    return list(images.permute(0, 2, 3, 1).numpy())


def study(*patients: str) -> pd.DataFrame:
    return pd.DataFrame({"patient_id": patients, "photo_id": [f"photo-{i}" for i in range(len(patients))]})


@settings(max_examples=50, deadline=None)
@given(
    study_ids=st.lists(st.text(min_size=1).map(str.strip), unique=True, min_size=1),
    trained=st.lists(st.text(min_size=1).map(str.strip), unique=True),
)
def test_overlap_is_the_set_of_common_patients(study_ids, trained):
    card = {"provenance": record([], trained)}
    seen = intersect(study(*study_ids), json.loads(json.dumps(card)))
    salt = card["provenance"]["salt"]
    common = {patient_key(p, salt) for p in study_ids} & {patient_key(p, salt) for p in trained}
    assert seen.known
    assert {patient_key(p, salt) for p in seen.patients} == common
    assert [p for p in study_ids if p in seen.patients] == list(seen.patients)


def test_identifiers_do_not_stand_in_the_card(chips):
    made = record(chips, ["Müller, Eva", "P-17"])
    assert "ller" not in json.dumps(made)
    assert made["patients"] != record(chips, ["Müller, Eva", "P-17"])["patients"]  # another salt
    assert (
        patient_key("Mu\u0308ller, Eva ", made["salt"]) in made["patients"]
    )  # the same name, typed otherwise
    assert patient_key("p-17", made["salt"]) not in made["patients"]


def changed(chip, how):
    image = Image.fromarray(chip)
    if how == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=60)
        image = Image.open(buffer).convert("RGB")
    elif how == "larger":
        image = image.resize((160, 160), Image.Resampling.BICUBIC)
    elif how == "grey":
        image = image.convert("L").convert("RGB")
    elif how == "darker":
        image = ImageEnhance.Brightness(image).enhance(0.8)
    return np.asarray(image)


@pytest.mark.parametrize("how", ["same", "jpeg", "larger", "grey", "darker"])
def test_a_photograph_is_recognised_under_another_patients_number(how, chips):
    card = {"provenance": record(chips[:6], ["A", "B"])}
    table = study("other-1", "other-2", "other-3")
    hashes = {"photo-0": perceptual_hash(chips[8]), "photo-1": perceptual_hash(changed(chips[2], how))}
    seen = intersect(table, card, hashes)
    assert seen.patients == ("other-2",)
    assert seen.photos == ("photo-1",)
    assert intersect(table, card).patients == ()


def test_different_people_differ(chips):
    hashes = [perceptual_hash(chip) for chip in chips]
    distances = hash_distances(hashes, hashes)
    assert (np.diag(distances) == 0).all()
    assert distances[~np.eye(12, dtype=bool)].min() > SAME_PHOTO


def test_what_a_base_had_seen_stays_seen(chips):
    first = {"provenance": record(chips[:2], ["A"])}
    second = {"provenance": record(chips[2:4], ["B"], base=first)}
    third = {"provenance": record(chips[4:6], ["C"], base=second)}
    table = study("D", "C", "A", "E")
    assert intersect(table, third).patients == ("C", "A")
    assert intersect(table, third, {"photo-3": perceptual_hash(chips[3])}).patients == ("C", "A", "E")
    assert intersect(table, third).known


@pytest.mark.parametrize("base", [{}, {"provenance": {"kind": "unknown"}}, {"provenance": None}])
def test_unknown_stays_unknown_whatever_is_added(base):
    assert not intersect(study("A"), base).known
    tuned = {"provenance": record([], ["A"], base=base)}
    seen = intersect(study("A", "B"), tuned)
    assert not seen.known
    assert seen.patients == ("A",)


def test_several_bases_are_all_followed(chips):
    """An encoder has seen what its generator had seen and what the encoder it started from had seen."""
    generator = {"provenance": record(chips[:2], ["A"])}
    start = {"provenance": record(chips[2:4], ["B"], base=generator)}
    made = json.loads(json.dumps({"provenance": record(chips[4:5], ["C"], base=[generator, start])}))
    seen = intersect(study("A", "B", "C", "D"), made)
    assert seen.known
    assert seen.patients == ("A", "B", "C")
    assert not intersect(study("A"), {"provenance": record([], [], base=[generator, {}])}).known
    assert record([], [], base=[generator, generator])["base"] == generator["provenance"]


def test_photographs_of_nobody_in_particular_do_not_rule_a_leak_out(chips):
    card = {"provenance": record(chips[:2], None)}
    seen = intersect(study("A", "B"), card, {"photo-1": perceptual_hash(chips[1])})
    assert seen.patients == ("B",)
    assert not seen.known


def test_bundled_generator_has_seen_nobody():
    seen = intersect(study("A", "B"), load_generator("synthetic-64").card)
    assert seen.known
    assert seen.patients == ()


def test_hashes_of_a_folder_of_chips(chips, tmp_path):
    folder = Chips.create(tmp_path / "chips", chips[:3], ["a", "b", "c"])
    assert chip_hashes(folder) == {name: perceptual_hash(chip) for name, chip in zip("abc", chips)}


def test_a_card_with_nonsense_for_hashes_matches_nothing(chips):
    made = record(chips[:1], ["A"])
    card = {"provenance": {**made, "photos": ["zz", 3, None], "patients": ["", 7]}}
    assert intersect(study("A"), card, {"photo-0": perceptual_hash(chips[0])}).patients == ()
