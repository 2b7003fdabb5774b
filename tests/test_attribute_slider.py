"""Frames behind a slider: within the budget, near the pictures, moved without anything else on the page."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

import stylegan_surv as ss
from stylegan_surv.attribute import difference, grid
from stylegan_surv.attribute.slider import BUDGET, FRAMES, LEAST_DB, psnr, slider
from stylegan_surv.errors import InputError


def pictures(side: int, blur: float = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    ends = [
        Image.fromarray(rng.integers(0, 255, (side, side, 3)).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(blur)
        )
        for _ in "ab"
    ]
    return [Image.blend(*ends, k / (len(FRAMES) - 1)) for k in range(len(FRAMES))]


@pytest.mark.parametrize("side", [64, 256])
def test_frames_fit_the_budget_and_stay_near_the_pictures(side: int) -> None:
    given = pictures(side)
    found = slider(given)
    assert len(found.webp) * 4 / 3 <= BUDGET
    for frame, picture in zip(found.frames(), given):
        assert (
            psnr(frame, picture.resize(frame.size, Image.Resampling.LANCZOS)) >= LEAST_DB - 3
        )  # of one; all: 38


def test_small_frames_lose_nothing() -> None:
    given = pictures(32)
    for frame, picture in zip(slider(given).frames(), given):
        np.testing.assert_array_equal(np.asarray(frame), np.asarray(picture))


def test_the_figure_needs_nothing_else_and_is_read_aloud() -> None:
    shown = slider(pictures(32), note="An <association>")._repr_html_()
    assert not re.search(r"(src|href)=[\"'](?!data:)", shown)
    assert 'aria-valuetext="as it is"' in shown
    assert "+0.3 SD of risk" in shown
    assert "An &lt;association&gt;" in shown
    assert "top:-1000%" in shown


def test_numbers_of_pictures_and_steps_go_together() -> None:
    with pytest.raises(InputError, match="20 pictures and 21 steps"):
        slider(pictures(32)[:20])
    with pytest.raises(InputError, match="has 1 pictures; expected 2"):
        grid({"a": pictures(32)[:1]}, [0, 1])


def test_a_difference_is_twice_the_change_about_grey() -> None:
    a, b = (Image.new("RGB", (4, 4), c) for c in ((100, 50, 0), (90, 60, 200)))
    assert difference(a, b).getpixel((0, 0)) == (148, 108, 0)
    with pytest.raises(InputError, match="one size"):
        difference(a, Image.new("RGB", (5, 4)))


def test_results_show_themselves_in_a_notebook() -> None:
    table = pd.DataFrame(
        {"patient_id": ["<b>", "c"], "photo": ["a.png", "b.png"], "time": [1, 2], "event": [1, 0]}
    )
    cohort = ss.read_cohort(table, check_photos=False)
    assert "<th>patients</th><td>2</td>" in cohort._repr_html_()
    latents = ss.Latents.from_arrays(np.zeros((2, 3, 4)))
    assert "<td>(3, 4)</td>" in latents._repr_html_()
