"""Detector, mesh and matte against LiteRT's own outputs, their gradients, batches and cards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mediapipe_inputs import REFERENCE, STORED, pictures
from torch import Tensor, nn

from stylegan_surv.faces.mesh.networks import FaceMesh, PersonMatte, ShortRangeDetector
from stylegan_surv.faces.mesh.networks.layers import Conv, read_card
from stylegan_surv.faces.mesh.networks.short_range import anchor_centres

SIDES = {"face-mesh": 192, "person-matte": 256, "face-short-range": 128}
NETWORKS: dict[str, nn.Module] = {
    "face-mesh": FaceMesh(),
    "person-matte": PersonMatte(),
    "face-short-range": ShortRangeDetector(),
}


def outputs(name: str, batch: Tensor) -> tuple[Tensor, ...]:
    """All outputs of a network for pictures in 0 … 1."""
    found = NETWORKS[name](batch * 2 - 1 if name == "face-short-range" else batch)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_litert(name: str) -> None:
    """Mesh within 1e-3 px, matte within 1e-3, detector within 1e-3 px and 1e-3 of a logit."""
    reference = np.load(REFERENCE)
    with torch.no_grad():
        found = outputs(name, torch.from_numpy(pictures(SIDES[name])))
    for k, tensor in enumerate(found):
        key = f"{name}.{k}"
        expected = reference[key]
        ours = tensor.numpy()[STORED[key]].reshape(expected.shape)
        assert np.abs(expected).max() > 0.5  # there is something to compare
        assert np.abs(ours - expected).max() <= 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_is_its_pictures_one_by_one(name: str) -> None:
    batch = torch.from_numpy(pictures(SIDES[name]))
    with torch.no_grad():
        together = outputs(name, batch)
        alone = [outputs(name, picture[None]) for picture in batch]
    for k, tensor in enumerate(together):
        assert torch.allclose(tensor, torch.cat([parts[k] for parts in alone]), atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_is_the_slope(name: str) -> None:
    """Against a central difference in float64, along a random direction."""
    network = NETWORKS[name]
    picture = torch.from_numpy(pictures(SIDES[name])[2:3]).double().requires_grad_()
    towards = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        weights = (torch.linspace(0.1, 1, part.numel(), dtype=torch.float64) for part in outputs(name, at))
        return sum((part.ravel() * weight).mean() for part, weight in zip(outputs(name, at), weights))  # type: ignore[return-value]

    try:
        network.double()
        (gradient,) = torch.autograd.grad(value(picture), picture)
        step = 1e-9  # crosses hardly any kink of the activations
        with torch.no_grad():
            slope = (value(picture + step * towards) - value(picture - step * towards)) / (2 * step)
    finally:
        network.float()
    assert abs(float((gradient * towards).sum()) - float(slope)) <= 1e-3 * abs(float(slope))
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_card(name: str) -> None:
    card = read_card(f"{name}.safetensors")
    assert card["licence"] == "Apache-2.0"
    assert len(card["source_sha256"]) == 64
    assert {"name", "source", "copyright", "input", "output"} <= card.keys()


@pytest.mark.parametrize(("kernel", "before"), [(3, 0), (5, 1)])
def test_padding_with_stride_two(kernel: int, before: int) -> None:
    """TensorFlow's rule for "SAME": the total is kernel − stride, the larger half at the end."""
    conv = Conv(1, 1, kernel, stride=2)
    nn.init.constant_(conv.bias, 0)  # type: ignore[arg-type]
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[0, 0, 0, 0] = 1
    with torch.no_grad():
        response = conv(impulse)
    assert response.shape == (1, 1, 4, 4)
    assert response[0, 0, 0, 0] == conv.weight[0, 0, before, before]


def test_anchors_lie_at_the_middle_of_their_places() -> None:
    centres = anchor_centres()
    assert centres.shape == (896, 2)
    assert centres[:3].tolist() == [[4, 4], [4, 4], [12, 4]]
    assert centres[512:519].tolist() == [[8, 8]] * 6 + [[24, 8]]
