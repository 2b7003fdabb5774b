"""The convolutions of training against torch's own: values, and gradients of two orders."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cuda_ops import convolution
from cuda_ops.convolution import conv2d, conv_transpose2d

CASES = [  # (height, width, kernel, stride, padding)
    (4, 5, 3, 1, 1),
    (5, 7, 3, 2, 0),
    (6, 5, 3, 2, 0),  # the last row is beyond the last step
    (3, 2, 1, 1, 0),
    (5, 6, 4, 3, 1),
]


@pytest.fixture(autouse=True)
def torch_is_slow(monkeypatch):
    """Ours, on every processor."""
    monkeypatch.setattr(convolution, "_SLOW_GRADIENT", True)


def images(n, c, height, width, dtype=torch.float64):
    return torch.randn(n, c, height, width, dtype=dtype).contiguous(memory_format=torch.channels_last)


def gradients(run, x, weight):
    """Value, both gradients, and the gradients of a function of these."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = run(x, weight)
    first = torch.autograd.grad(y.sin().sum(), (x, weight), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight))
    return [y.detach(), *(g.detach() for g in first), *second]


def assert_same(ours, torchs, x, weight):
    assert type(ours(x, weight.requires_grad_()).grad_fn).__name__ in ("_ShrinkBackward", "_GrowBackward")
    for got, wanted in zip(gradients(ours, x, weight), gradients(torchs, x, weight), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("case", CASES)
def test_a_convolution_and_its_derivatives_are_torchs(case):
    height, width, kernel, stride, padding = case
    options = {"stride": stride, "padding": padding}
    x, weight = images(2, 3, height, width), torch.randn(4, 3, kernel, kernel, dtype=torch.float64)
    assert_same(lambda x, w: conv2d(x, w, **options), lambda x, w: F.conv2d(x, w, **options), x, weight)


@pytest.mark.parametrize("case", CASES)
def test_a_transposed_convolution_and_its_derivatives_are_torchs(case):
    height, width, kernel, stride, _ = case
    x, weight = images(2, 3, height, width), torch.randn(3, 4, kernel, kernel, dtype=torch.float64)
    assert_same(
        lambda x, w: conv_transpose2d(x, w, stride=stride),
        lambda x, w: F.conv_transpose2d(x, w, stride=stride),
        x,
        weight,
    )


def test_many_pixels_are_added_up_in_parts(monkeypatch):
    monkeypatch.setattr(convolution, "_ROWS", 7)
    test_a_convolution_and_its_derivatives_are_torchs(CASES[0])
    test_a_transposed_convolution_and_its_derivatives_are_torchs(CASES[1])


def test_torch_takes_over_where_its_gradient_is_as_fast():
    x, weight = images(1, 2, 4, 4), torch.randn(3, 2, 3, 3, dtype=torch.float64)
    for image, frozen in ((x, True), (x.contiguous(), False), (x.bfloat16(), False)):
        w = weight.to(image.dtype).requires_grad_(not frozen)
        y = conv2d(image.requires_grad_(), w, padding=1)
        assert type(y.grad_fn).__name__ == "ConvolutionBackward0"
        assert torch.equal(y, F.conv2d(image, w, padding=1))
