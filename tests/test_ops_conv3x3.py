"""The 3×3 convolution of fewer products against torch's in double precision, and its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cuda_ops import _conv3x3, _dispatch, conv3x3, convolution
from cuda_ops.convolution import conv2d, relu_conv2d, scaled_conv2d

SHAPES = [  # (n, c_in, c_out, height, width)
    (1, 16, 16, 1, 1),
    (2, 16, 32, 5, 7),
    (3, 48, 16, 8, 4),
    (1, 32, 80, 13, 2),
    (9, 16, 16, 14, 15),  # more tiles than a block holds
]


@pytest.fixture(autouse=True, params=[False, True], ids=["gradient-torch", "gradient-ours"])
def small_and_everywhere(monkeypatch, request):
    """Ours, on every processor and however small, with either gradient of the weights."""
    assert _dispatch.backend("cpu").library, _dispatch.backend("cpu").reason
    monkeypatch.setattr(convolution, "_SLOW_GRADIENT", request.param)
    monkeypatch.setattr(_conv3x3, "_MEASURED", True)
    monkeypatch.setattr(_conv3x3, "_LEAST", 0)
    monkeypatch.setattr(_conv3x3, "_SMALLEST", 1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def images(n, c, height, width):
    return torch.randn(n, c, height, width).contiguous(memory_format=torch.channels_last)


def direct(x, weight, in_scale=None, out_scale=None, bias=None):
    """The definition, in double precision."""
    x, weight = x.double(), weight.double()
    x = x if in_scale is None else x * in_scale.double()[:, :, None, None]
    y = F.conv2d(x, weight, padding=1)
    y = y if out_scale is None else y * out_scale.double()[:, :, None, None]
    return y if bias is None else y + bias.double()[:, None, None]


def assert_close(got, wanted):
    error = (got.double() - wanted).abs().max() / wanted.square().mean().sqrt()
    assert error < 3e-5  # torch's own is about 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution(shape):
    n, c, k, height, width = shape
    x, weight, bias = images(n, c, height, width), torch.randn(k, c, 3, 3), torch.randn(k)
    scales = {"in_scale": torch.rand(n, c) + 0.5, "out_scale": torch.rand(n, k) + 0.5, "bias": bias}
    for layout in (weight, weight.contiguous(memory_format=torch.channels_last)):
        y = conv3x3(x, layout, **scales)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert_close(y, direct(x, weight, **scales))
        assert_close(conv3x3(x.contiguous(), layout), direct(x, weight))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_adjoint_is_the_gradient(shape):
    n, c, k, height, width = shape
    weight, x = torch.randn(k, c, 3, 3), images(n, c, height, width).double().requires_grad_()
    y = direct(x, weight)
    g = images(*y.shape)
    (wanted,) = torch.autograd.grad(y, x, g.double())
    assert_close(conv3x3(g, weight, adjoint=True), wanted)


def test_no_bit_depends_on_company_place_or_threads():
    x, weight = images(7, 32, 12, 20), torch.randn(48, 32, 3, 3)
    whole = conv3x3(x, weight)
    for i in range(7):
        assert torch.equal(conv3x3(x[i : i + 1], weight)[0], whole[i])
    assert torch.equal(conv3x3(x.flip(0), weight).flip(0), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        assert torch.equal(conv3x3(x, weight), whole)
    finally:
        torch.set_num_threads(threads)


def test_weights_that_changed_are_transformed_again():
    x, weight = images(1, 16, 6, 6), torch.randn(16, 16, 3, 3)
    before = conv3x3(x, weight)
    assert torch.equal(conv3x3(x, weight), before)
    weight.data.mul_(2)  # which no version counter sees
    assert_close(conv3x3(x, weight), direct(x, weight))


def test_without_pixels_there_is_an_empty_result():
    assert conv3x3(torch.zeros(0, 16, 4, 4), torch.randn(32, 16, 3, 3)).shape == (0, 32, 4, 4)
    assert conv3x3(torch.zeros(2, 16, 0, 4), torch.randn(32, 16, 3, 3)).shape == (2, 32, 0, 4)


def test_wrong_arguments_are_named():
    x, weight = images(2, 16, 4, 4), torch.randn(32, 16, 3, 3)
    with pytest.raises(
        ValueError, match=r"x is torch.float32 \[2, 16, 4, 4\] on cpu; expected float32 \[2, 32, 4, 4\]"
    ):
        conv3x3(x, weight, adjoint=True)
    with pytest.raises(ValueError, match=r"weight is torch\.float64"):
        conv3x3(x, weight.double())
    with pytest.raises(ValueError, match=r"in_scale is .* expected float32 \[2, 16\]"):
        conv3x3(x, weight, in_scale=torch.ones(16))
    with pytest.raises(ValueError, match="there are 8 and 16 channels"):
        conv3x3(images(1, 8, 4, 4), torch.randn(16, 8, 3, 3))


@pytest.mark.parametrize("trained", [False, True])
def test_gradients_of_two_orders_are_those_of_the_definition(trained):
    """Of everything that has one: image, scales and, in training, weights."""
    parts = [
        images(2, 16, 5, 6),
        torch.rand(2, 16) + 0.5,
        torch.rand(2, 32) + 0.5,
        torch.randn(32, 16, 3, 3) / 12,
    ]

    def gradients(run, dtype):
        x, s, d, w = (part.to(dtype).requires_grad_(trained or i < 3) for i, part in enumerate(parts))
        x = x.contiguous(memory_format=torch.channels_last)
        leaves = [x, s, d, w] if trained else [x, s, d]
        y = run(x, w, s, d)
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        return y.grad_fn, [y, *first, *second]

    kind, ours = gradients(lambda x, w, s, d: scaled_conv2d(x, w, s, d), torch.float32)
    _, wanted = gradients(lambda x, w, s, d: direct(x, w, s, d), torch.float64)
    assert (type(kind).__name__ == "_ScaledBackward") is not trained
    for a, b in zip(ours, wanted, strict=True):
        assert_close(a, b.detach())


def test_a_bias_has_its_gradient():
    x, weight, bias = images(2, 16, 5, 6), torch.randn(32, 16, 3, 3), torch.randn(32, requires_grad=True)
    y = conv2d(x, weight, bias, padding=1)
    assert type(y.grad_fn).__name__ == "_ShrinkBackward"
    assert_close(y, direct(x, weight, bias=bias).detach())
    (got,) = torch.autograd.grad(y.sin().sum(), bias)
    assert_close(got, direct(x, weight, bias=bias).detach().cos().sum(dim=(0, 2, 3)))


def test_rectified_in_one_pass_and_its_gradients_of_two_orders():
    x, weight, bias = images(3, 16, 7, 9), torch.randn(32, 16, 3, 3) / 12, torch.randn(32) / 2
    leaf, exact = x.requires_grad_(), x.detach().double().requires_grad_()
    y, wanted = relu_conv2d(leaf, weight, bias, padding=1), direct(exact, weight, bias=bias).relu()
    assert type(y.grad_fn).__name__ == "_RectifiedBackward"
    assert_close(y.detach(), wanted.detach())
    assert bool((y == 0).any())
    once = [
        torch.autograd.grad(z.square().sum(), p, retain_graph=True)[0]
        for z, p in ((y, leaf), (wanted, exact))
    ]
    assert_close(*once)
    twice = []
    for z, p in ((y, leaf), (wanted, exact)):
        (first,) = torch.autograd.grad(z.sin().sum(), p, create_graph=True)
        twice.append(torch.autograd.grad(first.square().sum(), p)[0])
    assert_close(*twice)


@pytest.mark.parametrize("mode", ["torch", "reference"])
def test_torchs_own_operations_can_be_asked_for(mode, monkeypatch):
    x, weight = images(2, 16, 8, 8).requires_grad_(), torch.randn(16, 16, 3, 3)
    monkeypatch.setattr(_dispatch, "mode", mode)
    assert type(conv2d(x, weight, padding=1).grad_fn).__name__ == "ConvolutionBackward0"
