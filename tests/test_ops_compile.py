"""`torch.compile` sees the kernels as plain operations, in forward, backward and a whole R1 step."""

from __future__ import annotations

import pytest
import torch

import cuda_ops
from cuda_ops import bias_act, convolution, upfirdn2d

FILTER = cuda_ops.setup_filter([1, 3, 3, 1])


def critic(x, weight, bias, impl=None):
    """A discriminator in small: convolution, activation, blur and decimation."""
    y = torch.nn.functional.conv2d(x, weight, padding=1)
    y = bias_act(y, bias, act="swish", clamp=256.0, impl=impl)
    return upfirdn2d(y, FILTER, down=2, padding=1, impl=impl).square().mean(dim=(1, 2, 3))


def penalty(x, weight, bias, impl=None):
    """R1 (Mescheder et al. 2018): the squared norm of the gradient at the images."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, weight, bias, impl).sum(), x, create_graph=True)
    return gradient.square().sum()


def numbers():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 16, 16), (8, 3, 3, 3), (8,))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def parameter_gradients(function, impl):
    x, weight, bias = numbers()
    weight.requires_grad_(), bias.requires_grad_()
    return torch.autograd.grad(function(x, weight, bias, impl), (weight, bias))


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_training_step_equals_the_eager_one(backend):
    compiled = torch.compile(lambda *a: critic(*a).sum(), backend=backend, fullgraph=True)
    for got, wanted in zip(
        parameter_gradients(lambda x, w, b, impl: compiled(x, w, b, impl), "native"),
        parameter_gradients(lambda *a: critic(*a).sum(), "reference"),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_whole_regularisation_step_compiles(backend, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "trace_autograd_ops", True)

    def step(x, weight, bias):
        return torch.autograd.grad(penalty(x, weight, bias, "native"), (weight, bias))

    x, weight, bias = numbers()
    weight.requires_grad_(), bias.requires_grad_()
    compiled = torch.compile(step, backend=backend, fullgraph=True)(x, weight, bias)
    for got, wanted in zip(compiled, parameter_gradients(penalty, "reference"), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ["native", "torch"])
def test_an_eager_regularisation_step(impl):
    for got, wanted in zip(
        parameter_gradients(penalty, impl), parameter_gradients(penalty, "reference"), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_compiled_code_takes_the_kernels():
    x = torch.randn(2, 16, 64, 64).contiguous(memory_format=torch.channels_last)

    def function(x):
        return upfirdn2d(x, FILTER, padding=1)

    graphs = []

    def backend(graph, inputs):
        graphs.append(str(graph.graph))
        return graph

    torch.testing.assert_close(torch.compile(function, backend=backend, fullgraph=True)(x), function(x))
    assert "cuda_ops.upfirdn2d" in graphs[0]


def smooth(x, weight):
    y = convolution.conv2d(x, weight, padding=1)
    return upfirdn2d(bias_act(y, weight[:, 0, 0, 0], act="swish"), FILTER, up=2, padding=(2, 1))


def test_forward_mode_and_transforms_follow_every_operation(monkeypatch):
    """Also where an operation of ours would run, which has no forward derivative: it must not be lost."""
    monkeypatch.setattr(convolution, "_SLOW_GRADIENT", True)
    like = {"dtype": torch.float64}
    x = torch.randn(1, 8, 36, 36, **like).contiguous(memory_format=torch.channels_last)
    weight, tangent = torch.randn(8, 8, 3, 3, **like), torch.randn(8, 8, 3, 3, **like)
    _, got = torch.func.jvp(lambda w: smooth(x, w), (weight,), (tangent,))
    step = 1e-6
    wanted = (smooth(x, weight + step * tangent) - smooth(x, weight - step * tangent)) / (2 * step)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7)
    leaf = weight.clone().requires_grad_()
    (plain,) = torch.autograd.grad(smooth(x, leaf).square().sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda w: smooth(x, w).square().sum())(weight), plain)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(leaf, tangent)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(smooth(x, dual)).tangent, got)
