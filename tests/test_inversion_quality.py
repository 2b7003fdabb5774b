"""The quality report: thresholds, subgroups, the order of the contact sheet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion import Latents
from stylegan_surv.inversion.quality import by_subgroup, contact_sheet, needs_review, summarise


@pytest.fixture
def folder(tmp_path):
    columns = {
        "lpips": [0.1, 0.5, 0.2, 0.1],
        "mse": 0.01,
        "distance": [1.0, 1.0, 3.0, 1.0],
        "source_sha256": "x",
    }
    latents = Latents.from_arrays(
        np.zeros((4, 10, 256)), list("abcd"), list("ppqr"), {"method": "m"}, **columns
    )
    latents.save(tmp_path / "l")
    return tmp_path / "l"


def test_a_summary_counts_patients_and_marks_outliers(folder):
    summary = summarise(folder)
    assert (summary.photos, summary.patients, summary.failed) == (4, 3, {})
    assert summary.review == ("b", "c")
    assert summary.quality["lpips"][0] == pytest.approx(0.15)
    assert "identity" not in summary.quality
    assert "2 to look at: b, c" in str(summary)
    assert summarise(folder, {"lpips": 0.15}).review == ("b", "c")
    assert summarise(folder, {"distance": 5.0}).review == ()
    assert "4 are beyond a threshold: that is the way" in str(summarise(folder, {"distance": 0.5}))


def test_low_identity_is_marked_and_missing_is_not():
    frame = pd.DataFrame({"lpips": 0.1, "distance": 1.0, "identity": [0.5, 0.99, np.nan]})
    assert needs_review(frame).tolist() == [True, False, False]


def test_subgroups_share_failures_and_medians(folder):
    patients = pd.DataFrame({"patient_id": list("pqr"), "sex": ["F", "M", "M"]})
    table = by_subgroup(folder, patients, "sex").set_index("sex")
    assert table["photos"].to_dict() == {"F": 2, "M": 2}
    assert table.loc["F", "lpips"] == pytest.approx(0.3)
    named_like_ours = by_subgroup(folder, patients.rename(columns={"sex": "status"}), "status")
    assert named_like_ours["photos"].tolist() == [2, 2]
    with pytest.raises(InputError, match="no column 'age'"):
        by_subgroup(folder, patients, "age")


def test_the_sheet_shows_the_worst_first(folder, tmp_path):
    from stylegan_surv.faces.chips import Chips

    Chips.create(tmp_path / "chips", [np.zeros((64, 64, 3), np.uint8)] * 4, list("abcd"))
    latents = Latents.open(folder)
    names = contact_sheet(latents, tmp_path / "chips", tmp_path / "sheet.png", "synthetic-64", worst=2)
    assert names == ["b", "c"]
    with pytest.raises(InputError, match="no 'identity'"):
        contact_sheet(latents, tmp_path / "chips", tmp_path / "s.png", "synthetic-64", by="identity")
    latents.metadata["generator_sha256"] = "another"
    with pytest.raises(Refused, match="another generator"):
        contact_sheet(latents, tmp_path / "chips", tmp_path / "s.png", "synthetic-64")
