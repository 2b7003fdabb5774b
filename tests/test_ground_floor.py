"""What every stage stands on: whole files, and pixels against images."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from stylegan_surv import InputError
from stylegan_surv._files import LEFTOVERS, partial_name, whole, write_arrays, write_json, write_text
from stylegan_surv._images import quantised, to_images, to_pixels


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path):
    file = tmp_path / "table.json"
    write_json(file, {"n": np.float32(3)})

    def half_written() -> None:
        with whole(file) as partial:
            partial.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot save .*table\.json .*No space"):
        half_written()
    assert file.read_text() == '{\n "n": 3.0\n}'
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_the_longest_name_that_a_disk_takes_can_be_written(tmp_path):
    name = "顔" * 85  # 255 bytes
    write_text(tmp_path / name, "x")
    assert (tmp_path / name).read_text() == "x"
    assert len(os.fsencode(partial_name(tmp_path / name).name)) < 40


def test_every_file_has_the_mode_that_the_umask_gives(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_arrays(tmp_path / "arrays.safetensors", {"x": np.zeros(3)}, {})
    assert (tmp_path / "arrays.safetensors").stat().st_mode == plain.stat().st_mode


def test_what_a_kill_leaves_is_found_by_its_pattern(tmp_path):
    partial_name(tmp_path / "a.png").touch()
    assert list(tmp_path.glob(LEFTOVERS)) == [partial_name(tmp_path / "a.png")]


def test_pixels_and_images_are_inverse_to_each_other():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    images = to_images(pixels)
    assert images.shape == (1, 3, 16, 16)
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_pixels(images), pixels)


def test_what_is_beyond_the_range_is_clipped():
    assert quantised(torch.tensor([-9.0, 0.0, 9.0]).reshape(3, 1, 1)).flatten().tolist() == [0, 128, 255]
