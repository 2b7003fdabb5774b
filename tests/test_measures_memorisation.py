"""The guard finds a generator that copies, and does not accuse one that merely makes average faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylegan_surv import InputError
from stylegan_surv.gan import LPIPS, load_generator
from stylegan_surv.gan.data import ImageSet
from stylegan_surv.gan.grading import memorisation as module
from stylegan_surv.gan.grading.measures import sample
from stylegan_surv.gan.grading.memorisation import Nearest, identity_vectors, lpips_distances, memorisation


@pytest.fixture(scope="module")
def images():
    return sample(load_generator("synthetic-64"), 240, seed=3)


def test_all_pairs_are_lpips(images):
    a, b = images[:5], images[5:8]
    expected = torch.stack([LPIPS()(a, y[None].expand_as(a)) for y in b], dim=1)
    torch.testing.assert_close(lpips_distances(a, b), expected, rtol=1e-4, atol=1e-5)


def test_copies_are_found(images):
    train, held, fresh = images[:80], images[80:160], images[160:]
    rng = torch.Generator().manual_seed(0)
    order = torch.randperm(len(train), generator=rng)[:30]
    copies = (train[order] + 0.05 * torch.randn(30, 3, 64, 64, generator=rng)).clamp(-1, 1)
    caught = memorisation(copies, train, held, identity=False)
    np.testing.assert_array_equal(caught.lpips.index, order.numpy())
    summary = caught.as_card()["lpips"]
    assert summary["closer"] == summary["isolated"] == 1
    assert max(summary["p_isolated"], summary["p_closer"]) < 1e-6
    honest = memorisation(fresh, train, held, identity=False).as_card()["lpips"]
    assert honest["isolated"] < 0.2
    assert honest["p_isolated"] > 0.1


def test_average_faces_are_near_to_all_and_no_copies(images):
    train, held = images[:80], images[80:160]
    average = sample(load_generator("synthetic-64"), 30, seed=8, truncation_psi=0.3)
    summary = memorisation(average, train, held, identity=False).lpips.summary()
    assert summary["median"] < summary["held_out_median"]  # distance alone would accuse them
    assert summary["p_isolated"] > 0.1


def test_identity_follows_the_person_and_not_the_picture(images):
    people = images[:6]
    again = F.interpolate(people * 0.8 + 0.1, scale_factor=2, mode="bilinear")
    a, b = identity_vectors(people), identity_vectors(again)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    assert (distance.argmin(axis=1) == np.arange(6)).all()
    assert np.diag(distance).max() < 0.4
    assert np.median(distance[~np.eye(6, dtype=bool)]) > 0.5


def test_both_measures_are_given(images):
    steps = []
    both = memorisation(images[:2], images[2:5], images[5:25], progress=lambda i, n: steps.append((i, n)))
    assert set(both.as_card()) == {"lpips", "identity"}
    assert [s for s in steps if s[0] == s[1]] == [(3, 3), (3, 3), (20, 20), (3, 3), (2, 2)]  # in parts


def test_nearest_is_the_two_smallest_of_each_row():
    nearest = Nearest.of(np.array([[3.0, 1.0, 2.0], [4.0, 8.0, 6.0]]), np.array([[5.0, 1.0, 9.0]]))
    assert nearest.index.tolist() == [1, 0]
    assert nearest.distance.tolist() == [1.0, 4.0]
    assert nearest.isolation.tolist() == [0.5, 4 / 6]
    assert nearest.held_out_isolation.tolist() == [0.2]


def test_large_photographs_are_compared_in_small_parts(images, monkeypatch):
    """As bytes, at no more than 128 px, and never many of them as floats."""
    read = []
    vectors = module.lpips_vectors
    monkeypatch.setattr(module, "lpips_vectors", lambda x, net: read.append(len(x)) or vectors(x, net))
    monkeypatch.setattr(module, "CHUNK", 64)
    monkeypatch.setattr(module, "HELD", 20)
    large = F.interpolate(images[:30], scale_factor=4, mode="bilinear").add(1).mul(127.5).round().byte()
    photos = ImageSet(tuple(map(str, range(30))), large.permute(0, 2, 3, 1).numpy())
    found = lpips_distances(photos.subset(range(7)), photos)
    assert max(read) == 4
    small = F.interpolate(photos.images(), size=(128, 128), mode="bilinear", antialias=True)
    monkeypatch.undo()
    torch.testing.assert_close(found, lpips_distances(small[:7], small), rtol=1e-4, atol=1e-5)


def test_nothing_to_compare_with(images):
    with pytest.raises(InputError, match="19 held-out"):
        memorisation(images[:3], images[3:9], images[9:28])
