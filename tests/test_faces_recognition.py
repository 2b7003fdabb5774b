"""The face recogniser and its chips: dlib's own answers, stored and asked anew; batches, gradients, placements."""

from __future__ import annotations

import dlib_pictures
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import pdist
from torch import nn

from stylegan_surv import InputError
from stylegan_surv._images import to_images
from stylegan_surv.faces.dlib.face_resnet import FILE, face_resnet, from_dat
from stylegan_surv.faces.dlib.recognition_chip import (
    FIVE,
    MEAN_FACE,
    PADDING,
    SIDE,
    Placement,
    cut,
    placement,
)
from stylegan_surv.faces.dlib.weights import SOURCES, load

ANSWERS = np.load(dlib_pictures.ANSWERS)


@pytest.fixture(scope="module")
def network():
    return face_resnet()


@pytest.fixture(scope="module")
def chips() -> torch.Tensor:
    return to_images(dlib_pictures.chips(ANSWERS["faces"]))


def named(points) -> dict[str, np.ndarray]:
    """dlib's whole pixels as points between the edges of pixels."""
    return dict(zip(dlib_pictures.ORDER, points + 0.5))


def test_descriptors_are_those_of_dlib(network, chips):
    found = network(chips).numpy()
    expected = ANSWERS["chip_descriptors"]
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.9999
    assert np.abs(pdist(found) - pdist(expected)).max() < 0.005


def test_full_precision_is_exact(chips):
    face_recognition_models = pytest.importorskip("face_recognition_models")
    found = from_dat(face_recognition_models.face_recognition_model_location())(chips).numpy()
    expected = ANSWERS["chip_descriptors"]
    assert (np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max() < 1e-5


def test_the_stored_answers_are_those_that_dlib_gives():
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    for name, now in dlib_pictures.ask_recogniser(ANSWERS["faces"]).items():
        np.testing.assert_allclose(now, ANSWERS[name], atol=1e-4)


def test_together_is_as_alone(network, chips):
    together = network(chips)
    alone = torch.cat([network(chip[None]) for chip in chips])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_the_descriptor_comes_from_the_features(network, chips):
    features = network.features(chips[:2])
    assert features.shape == (2, 256)
    torch.testing.assert_close(network.head(features), network(chips[:2]))
    assert network.maps(chips[:2]).shape == (2, 256, 2, 2)


def test_every_convolution_and_every_activation_is_a_module_of_its_own(network, chips):
    assert len(list(network.convolutions())) == 29
    calls: list[nn.Module] = []
    handles = [
        m.register_forward_hook(lambda module, *_: calls.append(module))
        for m in network.modules()
        if isinstance(m, nn.ReLU)
    ]
    network(chips[:1])
    for handle in handles:
        handle.remove()
    assert len(calls) == len(set(map(id, calls))) == 29
    assert not any(m.inplace for m in calls)


def test_the_gradient_is_the_slope(chips):
    network = face_resnet().double()
    chip = chips[:1].double().requires_grad_()
    other = network(chips[1:2].double()).detach()
    direction = torch.randn(chip.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad((network(chip) - other).norm(), chip)
    step = 1e-8 * direction  # small beside the distance to the next kink of an activation
    with torch.no_grad():
        rise = (network(chip + step) - other).norm() - (network(chip - step) - other).norm()
    torch.testing.assert_close((slope * direction).sum(), rise / 2e-8, rtol=1e-5, atol=1e-6)


def test_parameters_are_fixed(network):
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


@pytest.mark.parametrize("shape", [(1, 3, 149, 150), (3, 150, 150), (1, 1, 150, 150)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(InputError, match="3, 150, 150"):
        network(torch.zeros(shape))


def test_the_card_says_where_the_weights_come_from():
    weights, card = load(FILE)
    assert card["source"]["sha256"] == SOURCES[card["source"]["file"]]
    assert "public domain" in card["licence"]
    assert FILE.stat().st_size < 11.5e6
    assert sum(value.numel() for value in weights.values()) == 5_607_488


def test_placements_are_those_of_dlib():
    for (_, points), (x, y, angle, side) in zip(
        dlib_pictures.portraits(ANSWERS["faces"]), ANSWERS["placements"]
    ):
        place = placement(named(points))
        found = (place.centre[0] - 0.5, place.centre[1] - 0.5, place.angle, place.scale * SIDE)
        np.testing.assert_allclose(found, (x, y, angle, side), atol=1e-6)


def test_chips_of_pictures_give_dlibs_descriptors(network):
    """What differs is that dlib cuts fractions of a level off, once per halving and once per chip."""
    portraits = dlib_pictures.portraits(ANSWERS["faces"])
    for (picture, points), expected in zip(portraits, ANSWERS["portrait_descriptors"]):
        chip = cut(to_images(picture)[None], placement(named(points)))
        assert float((network(chip) - torch.from_numpy(expected)).norm()) < 0.012


def test_the_mean_face_lies_on_itself():
    place = Placement((200.0, 120.0), 0.3, 1.7)
    shares = np.array([MEAN_FACE[name] for name in FIVE])
    chip = (shares + PADDING) / (1 + 2 * PADDING) * SIDE
    matrix = place.matrix()
    picture = chip @ matrix[:, :2].T + matrix[:, 2]
    found = placement(dict(zip(FIVE, picture)))
    np.testing.assert_allclose((*found.centre, found.angle, found.scale), (200, 120, 0.3, 1.7))
    np.testing.assert_allclose(found.to_chip(picture), chip)


def test_any_named_landmarks_will_do():
    shares = {name: np.array(at) * 100 for name, at in MEAN_FACE.items()}
    whole = placement(shares)
    for some in (
        ("left_eye_outer", "right_eye_outer"),
        FIVE,
        ("left_ala", "right_mouth_corner", "nose_base"),
    ):
        part = placement({name: shares[name] for name in some})
        np.testing.assert_allclose(part.matrix(), whole.matrix(), atol=1e-9)
    with pytest.raises(InputError, match=r"1 landmarks .*chin, nose_base"):
        placement({"nose_base": (1, 2), "chin": (3, 4)})
    with pytest.raises(InputError, match="not finite"):
        placement({"left_eye_outer": (1, np.nan), "nose_base": (3, 4)})
    with pytest.raises(InputError, match="one point"):
        placement({"left_eye_outer": (1, 2), "nose_base": (1, 2)})


def test_a_mesh_brings_its_own_mean_face():
    mesh = {f"mesh_{k}": (0.1 * k, 0.05 * k * k) for k in range(8)}
    place = placement({name: np.array(at) * 150 for name, at in mesh.items()}, mesh)
    np.testing.assert_allclose(place.scale, 1 + 2 * PADDING)


def test_a_chip_of_the_picture_itself_is_the_picture():
    picture = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(cut(picture, Placement((75.0, 75.0), 0.0, 1.0)), picture, rtol=0, atol=1e-4)


def test_beyond_the_picture_is_black():
    chip = cut(torch.ones(1, 3, 40, 40), Placement((20.0, 20.0), 0.1, 1.0))
    assert float(chip[..., 75, 75].min()) == pytest.approx(1)
    assert float(chip[..., :20].max()) == -1
    for far in (Placement((900.0, -900.0), 0.0, 1.0), Placement((9e3, 9e3), 1.0, 40.0)):
        assert float(cut(torch.ones(1, 3, 40, 40), far).max()) == -1


@pytest.mark.parametrize("scale", [0.5, 1.3, 3.0, 7.0])
def test_gradients_reach_the_picture_through_the_chip(scale):
    picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cut(picture, Placement((48.0, 50.0), 0.2, 96 * scale / SIDE)).sum().backward()
    assert bool(picture.grad.isfinite().all())
    assert float((picture.grad[..., 40:56, 40:56] > 0).float().mean()) > 0.5


def test_who_is_who_survives_a_smaller_picture(network):
    faces = to_images(ANSWERS["faces"])
    large = F.interpolate(faces, size=256, mode="bicubic").clamp(-1, 1)
    small = F.interpolate(large, size=128, mode="area")
    place = [placement(named(dlib_pictures.FFHQ_POINTS * side - 0.5)) for side in (256, 128)]
    first, second = (network(cut(x, p)) for x, p in zip((large, small), place))
    assert torch.equal(torch.cdist(first, second).argmin(dim=1), torch.arange(len(faces)))
