"""Sliced Wasserstein distances of local features."""

from functools import cache

import torch

from stylegan_surv.gan.networks import LPIPS
from stylegan_surv.gan.training.losses import quantile_distance
from stylegan_surv.gan.training.textures import _cells, texture_distance


@cache
def network() -> LPIPS:
    return LPIPS()


def pictures(n: int, seed: int) -> torch.Tensor:
    """Smooth blobs, brighter on the left."""
    draw = torch.Generator().manual_seed(seed)
    small = torch.rand(n, 3, 8, 8, generator=draw) - torch.linspace(0, 1, 8)
    return torch.nn.functional.interpolate(small, 64, mode="bilinear")


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        return float(texture_distance(a, b, network(), 16))


def test_the_same_pictures_in_another_order_are_at_no_distance() -> None:
    a = pictures(8, 0)
    assert distance(a, a.flip(0)) < 1e-8


def test_noise_wrong_colours_and_exchanged_places_are_farther_than_other_pictures_of_the_kind() -> None:
    a, b = pictures(24, 1), pictures(24, 2)
    same = distance(a, b)
    assert distance(a + 0.1 * torch.randn(a.shape), b) > 2 * same
    assert distance(a.flip(1) * 0.7, b) > 1.5 * same
    assert distance(a.flip(3), b) > 2 * same  # the same values, on the other side


def test_following_the_gradient_brings_pictures_nearer() -> None:
    a, b = (pictures(8, 3) * 0.5).requires_grad_(), pictures(8, 4)
    before = distance(a, b)
    adam = torch.optim.Adam([a], lr=0.02)
    for step in range(10):
        torch.manual_seed(step + 1)
        adam.zero_grad()
        texture_distance(a, b, network(), 16).backward()
        adam.step()
    assert distance(a, b) < 0.7 * before


def test_cells_hold_the_values_of_one_place() -> None:
    rows = torch.arange(5.0)[:, None].expand(5, 7)
    cells = _cells(rows.expand(2, 3, 5, 7), 2)
    assert cells.shape == (2, 2 * 3, 3 * 4)
    assert set(cells[0, 0].tolist()) == {0.0, 1.0}
    assert set(cells[0, 3].tolist()) == {2.0, 3.0}  # the second row of cells; the fifth line fills none


def test_sets_of_unequal_size_are_compared_at_quantiles() -> None:
    x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert quantile_distance(x, y) == 0
    assert quantile_distance(y, x + 1) == 1


def test_the_gradient_flows_to_the_first_pictures_alone() -> None:
    a, b = pictures(2, 0).requires_grad_(True), pictures(2, 1).requires_grad_(True)
    texture_distance(a, b, network(), 4).backward()
    assert a.grad is not None
    assert a.grad.any()
    assert b.grad is None
