"""Damage of any kind, to a file of any layout, ends in a network or in one message."""

from __future__ import annotations

import pytest
import torch
from checkpoint_files import random_discriminator, random_generator, write_nvlabs
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan_surv import InputError
from stylegan_surv.gan import load_discriminator, load_generator, save_network
from stylegan_surv.gan.formats import rosinality

SMALL = {"resolution": 8, "channel_base": 32, "channel_max": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small file of every layout."""
    folder = tmp_path_factory.mktemp("whole")
    G, D = random_generator(z_dim=4, w_dim=4, **SMALL), random_discriminator(**SMALL)
    write_nvlabs(folder / "nvlabs.pkl", G_ema=G, D=D)
    save_network(G, folder / "own.safetensors", {})
    rosinality.write(folder / "archive.pt", G, D)
    content = torch.load(folder / "archive.pt", weights_only=True)
    torch.save(content, folder / "old.pt", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["nvlabs.pkl", "own.safetensors", "archive.pt", "old.pt"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_one_message(name, data, files, tmp_path_factory):
    content = bytearray(files[name])
    place = st.integers(0, len(content) - 1)
    how = data.draw(st.sampled_from(["bytes", "cut", "gap", "doubled"]))
    if how == "bytes":
        for at in data.draw(st.lists(place, min_size=1, max_size=20)):
            content[at] = data.draw(st.integers(0, 255))
    elif how == "cut":
        del content[data.draw(place) :]
    else:
        at, length = data.draw(place), data.draw(st.integers(1, 200))
        content[at : at + length] = b"" if how == "gap" else content[at : at + length] * 2
    file = tmp_path_factory.mktemp("damaged") / name
    file.write_bytes(content)
    messages = []
    for load in (load_generator, load_discriminator):
        try:
            load(file)
        except InputError as wrong:
            messages.append(str(wrong))
    assert all(name in message and "\n" not in message for message in messages)
