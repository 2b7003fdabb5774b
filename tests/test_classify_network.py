"""The network: equal to the face recogniser before training, resumable bit for bit, and honest explanations."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open

from stylegan_surv._images import to_images
from stylegan_surv.classify.augment import copies
from stylegan_surv.classify.explain import Explained, explain_chips, guided, randomised
from stylegan_surv.classify.network import Kept, Tail, Trunk, all_blocks, assembled, keep_trunk
from stylegan_surv.classify.training import Lesson, TrainSettings, score, train
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.face_resnet import face_resnet

SETTINGS = TrainSettings(epochs=6, patience=6, copies=2, seeds=1, rate=1e-3)


def lesson(n: int = 48, seed: int = 0) -> Lesson:
    """Maps in which a few channels know the class."""
    rng = np.random.default_rng(seed)
    case = np.arange(n) % 2 == 0
    maps = np.maximum(rng.normal(0, 0.3, (n, 2, 256, 4, 4)), 0)
    means = rng.normal(size=(n, 2, 256))
    means[case, :, :4] += 0.8
    tensors = (torch.from_numpy(maps).half(), torch.from_numpy(means).float(), torch.zeros(n, 128))
    return Lesson(Kept(*tensors), case, np.arange(n) // 2, np.arange(n) < n - 12, (0, 0))


def chips(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (n, 3, 10, 10)))
    fine = torch.nn.functional.interpolate(coarse, (150, 150), mode="bilinear")
    return fine.movedim(1, -1).round().byte().numpy()


@pytest.mark.parametrize("blocks", [1, 4])
def test_trunk_and_untrained_blocks_are_the_face_recogniser(blocks):
    images, whole = to_images(chips(3)), face_resnet()
    with torch.no_grad():
        maps, means = Trunk(blocks)(images)
        tail = Tail(whole, blocks, 0.0)
        numbers = tail.numbers(maps, means)
        torch.testing.assert_close(numbers[:, :256], whole.features(images), rtol=1e-4, atol=1e-4)
        stem = whole.stem(whole.levels(images)).mean(dim=(2, 3))
        torch.testing.assert_close(numbers[:, 256:288], stem, rtol=1e-4, atol=1e-4)
        logits, _ = Explained(tail)(images)
        torch.testing.assert_close(logits, tail(maps, means), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="expected 1 … 4"):
        Trunk(5)


def test_what_the_trunk_gives_is_kept_and_belongs_to_its_chips(tmp_path):
    path = tmp_path / "trunk.safetensors"
    how = {"blocks": 1, "count": 2, "fill": 128, "seed": 0}
    first = keep_trunk(chips(3), path, **how)
    stamp = path.stat().st_mtime_ns
    again = keep_trunk(chips(3), path, **how)
    assert path.stat().st_mtime_ns == stamp
    assert torch.equal(first.maps, again.maps)
    other = keep_trunk(chips(3, 1), path, **how)
    assert not torch.equal(first.maps, other.maps)


def test_copies_are_the_chip_its_mirror_image_and_seeded_changes():
    chip = to_images(chips(1)[0])
    a, b = (copies(chip, 4, 0.0, 3, 7) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(a[0], chip)
    assert torch.equal(a[1], chip.flip(2))
    assert not torch.equal(a[2], a[3])


def test_training_learns_and_the_same_seed_gives_the_same_numbers(tmp_path):
    one = lesson()
    found = [
        train(one, SETTINGS, tmp_path / name) for name in ("a", "b") if (tmp_path / name).mkdir() is None
    ]
    rows = np.flatnonzero(~one.train)
    scores = [score(f.tail, one.kept, rows) for f in found]
    assert np.array_equal(*scores)
    assert found[0].losses == found[1].losses
    assert scores[0][one.case[rows]].mean() > scores[0][~one.case[rows]].mean()
    other = train(one, TrainSettings(**{**SETTINGS.__dict__, "seed": 1}), tmp_path)
    assert other.losses != found[0].losses


SCRIPT = """
import sys, time; sys.path.insert(0, {tests!r})
from pathlib import Path
import test_classify_network as t
from stylegan_surv.classify import training
epoch = training._Run.epoch
training._Run.epoch = lambda run: (time.sleep(0.2), epoch(run))[1]
training.train(t.lesson(), t.SETTINGS, Path({folder!r}))
"""


def test_a_killed_training_goes_on_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    expected = train(lesson(), SETTINGS, whole)
    code = SCRIPT.format(tests=os.path.dirname(__file__), folder=str(killed))
    process = subprocess.Popen([sys.executable, "-c", code])
    path, passes = killed / "fold-0-seed-0.safetensors", 0
    for _ in range(1200):
        time.sleep(0.05)
        if path.exists():
            with safe_open(path, "pt") as file:
                passes = file.metadata()["losses"].count(",")
        if passes >= 2:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= passes < SETTINGS.epochs
    resumed = train(lesson(), SETTINGS, killed)
    assert resumed.losses == expected.losses
    assert resumed.threshold == expected.threshold
    for name, tensor in expected.tail.state_dict().items():
        assert torch.equal(resumed.tail.state_dict()[name], tensor), name


def test_one_class_in_training_is_refused(tmp_path):
    one = lesson()
    with pytest.raises(InputError, match="one class"):
        train(Lesson(one.kept, np.ones(48, bool), one.sets, one.train, one.key), SETTINGS, tmp_path)


@pytest.fixture(scope="module")
def tail() -> Tail:
    """Blocks as they are and a head of its own."""
    made = Tail(face_resnet(), 1, 0.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.head.weight.normal_(0, 1, generator=generator)
    return made


def test_guided_differs_from_plain_and_is_taken_off_again(tail):
    pixels, towards = chips(4), np.array([1.0, -1.0, 1.0, -1.0])
    network = Explained(tail)
    maps = explain_chips(network, pixels, towards)
    assert np.linalg.norm(maps.guided - maps.plain) > 0.1 * np.linalg.norm(maps.plain)
    assert (maps.cam >= 0).all()

    def gradient() -> torch.Tensor:
        images = to_images(pixels).requires_grad_(True)
        return torch.autograd.grad(network(images)[0].sum(), images)[0]

    before = gradient()
    with guided(network):
        inside = gradient()
    assert torch.equal(gradient(), before)
    assert not torch.equal(inside, before)


def test_classes_are_explained_apart(tail):
    pixels = chips(3)
    a, b = (explain_chips(Explained(tail), pixels, np.full(3, sign)).cam for sign in (1.0, -1.0))
    overlap = np.minimum(a, b).sum(axis=(1, 2)) / np.maximum(a, b).sum(axis=(1, 2))
    assert (overlap < 0.5).all()


def test_random_weights_change_the_network_and_leave_the_trained_one(tail):
    before = {name: tensor.clone() for name, tensor in tail.state_dict().items()}
    network = randomised(tail, 3)
    pixels = chips(2)
    assert not np.allclose(
        explain_chips(network, pixels, np.ones(2)).cam, explain_chips(Explained(tail), pixels, np.ones(2)).cam
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in tail.state_dict().items())


def test_the_assembled_network_holds_the_trained_blocks():
    made = Tail(face_resnet(), 2, 0.0)
    with torch.no_grad():
        made.blocks[0].first.weight.add_(1)
    network = assembled(made)
    assert torch.equal(all_blocks(network)[-2].first.weight, made.blocks[0].first.weight)
    assert torch.equal(all_blocks(network)[-3].first.weight, all_blocks(face_resnet())[-3].first.weight)
