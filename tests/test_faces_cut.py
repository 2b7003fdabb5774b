"""Faces are cut in one way throughout a study: as its chips were, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_face import draw_face

from stylegan_surv.errors import Refused
from stylegan_surv.faces import align
from stylegan_surv.faces.align import METHOD
from stylegan_surv.faces.chips import SETTINGS, Chips
from stylegan_surv.inversion.sources import cut_face, open_source


@pytest.fixture
def chips(tmp_path: Path) -> Chips:
    (tmp_path / "photos").mkdir()
    draw_face(240).rotate(-90).save(tmp_path / "photos" / "a.png")
    return align(tmp_path / "photos", tmp_path / "chips", size=96, workers=1)


def test_one_photograph_is_cut_as_its_study_was(chips: Chips) -> None:
    cut = open_source(chips).cut
    assert cut == {"size": 96, "landmarks": "mesh", "method": METHOD}
    photo = draw_face(240).rotate(-90)
    assert np.array_equal(cut_face(photo, 64, cut), chips.load("a"))
    assert cut_face(photo, 64).shape == (256, 256, 3)


def test_chips_of_another_method_are_refused(chips: Chips) -> None:
    settings = chips.folder / SETTINGS
    settings.write_text(json.dumps({"size": 96, "detector": "hog", "method": METHOD - 1}))
    for use in (
        lambda: open_source(chips),
        lambda: open_source(chips.folder),
        lambda: cut_face(draw_face(200), 64, {"size": 96, "method": METHOD - 1}),
    ):
        with pytest.raises(
            Refused, match=f"cut by method {METHOD - 1}, and this version has method {METHOD}"
        ):
            use()


def test_a_cut_that_names_no_landmarks_is_dlibs() -> None:
    pytest.importorskip("face_recognition_models")
    old = cut_face(draw_face(240), 64, {"size": 96, "method": METHOD})
    new = cut_face(draw_face(240), 64, {"size": 96, "method": METHOD, "landmarks": "dlib68"})
    assert np.array_equal(old, new)
