"""dlib's serialised networks: what is written is read; what is damaged or foreign is one message, never more."""

from __future__ import annotations

import math
import tracemalloc
from contextlib import suppress

import dlib_files
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stylegan_surv import InputError
from stylegan_surv.faces.dlib import cnn_detector, face_resnet
from stylegan_surv.faces.dlib._dat import Damaged, Network, Stream, parse, read


@pytest.fixture(scope="module")
def written() -> bytes:
    return dlib_files.detector(cnn_detector.cnn_detector())


@given(st.integers(-(2**63), 2**63))
def test_integers_are_read_as_written(value):
    assert Stream(dlib_files.integer(value)).integer() == value


@given(st.floats(allow_nan=True))
def test_numbers_are_read_as_written(value):
    read_back = Stream(dlib_files.real(value)).real()
    assert read_back == value or (math.isnan(value) and math.isnan(read_back))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_number_or_damaged(data):
    for what in ("integer", "real", "flag", "name", "tensor", "alias"):
        with suppress(Damaged):
            getattr(Stream(data), what)()


def test_a_network_is_read_as_written(tmp_path, written):
    network = cnn_detector.cnn_detector()
    file = tmp_path / "detector.dat"
    file.write_bytes(written)
    read_back = cnn_detector.from_dat(file)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(read_back.state_dict()[name], value, rtol=1e-6, atol=0)


def test_batch_normalisation_is_folded_in(tmp_path):
    network = cnn_detector.cnn_detector()
    file = tmp_path / "detector.dat"
    file.write_bytes(dlib_files.detector(network, mean=0.25, variance=3.0, eps=1.0))
    folded = cnn_detector.from_dat(file)
    for found, plain in zip(folded.convolutions()[:-1], network.convolutions()):
        torch.testing.assert_close(found.weight, plain.weight / 2)  # (w x + b - mean) / sqrt(3 + 1)
        torch.testing.assert_close(found.bias, (plain.bias - 0.25) / 2)


def test_every_truncation_is_refused(written):
    rng = np.random.default_rng(0)
    ends = [*range(300), *rng.integers(300, len(written), 60).tolist(), len(written) - 1]
    for end in ends:
        with pytest.raises(InputError, match="damaged"):
            parse(written[:end])
    with pytest.raises(InputError, match="1 bytes follow"):
        parse(written + b"\0")


def test_a_changed_byte_is_another_network_or_refused(tmp_path, written):
    rng = np.random.default_rng(1)
    file = tmp_path / "changed.dat"
    refused = 0
    places = [*range(130), *rng.integers(130, len(written), 100).tolist()]
    for at in places:
        changed = bytearray(written)
        changed[at] ^= 1 << int(rng.integers(8))
        try:
            assert isinstance(parse(bytes(changed)), Network)
            file.write_bytes(changed)
            cnn_detector.from_dat(file)
        except InputError:
            refused += 1
    assert refused > 80  # nearly all bytes of the head mean something


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1 bytes are expected and 0 are left"),
        (b"BZh91AY&SY", "bunzip2"),
        (b"\x80\x02}q\x00.", "does not begin a number"),
        (b"version https://git-lfs.github.com/spec/v1\n", "does not begin a number"),
        (b"\x01\x01\x01\x0aloss_other", "neither loss_metric_2 nor loss_mmod_"),
        (b"\x01\x01\x01\x0dloss_metric_2" + b"\x01\x01" * 4 + b"\x01\x02" * 9000, "more than 4096 layers"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(tmp_path, content, message):
    file = tmp_path / "foreign.dat"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(file)


def test_a_file_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(InputError, match=r"none\.dat cannot be read: No such file"):
        read(tmp_path / "none.dat")


def test_a_tensor_that_claims_much_takes_no_memory():
    huge = b"".join(map(dlib_files.integer, (2, 2**14, 2**14, 2**14, 2**14)))
    tracemalloc.start()
    with pytest.raises(Damaged, match="larger than the file"):
        Stream(huge).tensor()
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()


def test_the_other_network_is_refused_by_name(tmp_path, written):
    file = tmp_path / "detector.dat"
    file.write_bytes(written)
    with pytest.raises(InputError, match="layer 4 is conv, expected is max_pool"):
        face_resnet.from_dat(file)


def test_another_detector_is_refused(tmp_path, written):
    file = tmp_path / "detector.dat"
    file.write_bytes(written.replace(dlib_files.integer(80) * 2, dlib_files.integer(40) * 2, 1))
    with pytest.raises(InputError, match=r"\(40, 40\).*another detector"):
        cnn_detector.from_dat(file)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = cnn_detector.cnn_detector()
    network.convolutions()[2].bias[3] = torch.nan
    file = tmp_path / "detector.dat"
    file.write_bytes(dlib_files.detector(network))
    with pytest.raises(InputError, match=r"convolution 3 .*not finite"):
        cnn_detector.from_dat(file)
