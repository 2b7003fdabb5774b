"""Every implementation against the float64 reference: values, gradients of two orders, torch's own checks.

``emulated`` is the CUDA source run by the SIMT emulator; ``cuda`` runs where there is a GPU.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuda_ops import _dispatch, _emulated, _native, fast_torch, reference
from cuda_ops.reference import ACTIVATIONS, Resample

TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
ORDERS = ("forward", "reverse", "random")


@pytest.fixture(scope="session")
def emulated():
    _emulated.load()
    return _emulated.NAMESPACE


@pytest.fixture(scope="session")
def native():
    assert _dispatch.backend("cpu").library, _dispatch.backend("cpu").reason
    return _native.NAMESPACE


@pytest.fixture(params=["native", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernels(request):
    """(namespace, device) of compiled operations."""
    if request.param == "cuda":
        assert _dispatch.backend("cuda").library, _dispatch.backend("cuda").reason
        return _native.NAMESPACE, "cuda"
    return request.getfixturevalue(request.param), "cpu"


@pytest.fixture(autouse=True)
def _thread_order(monkeypatch):
    monkeypatch.setenv("CUDA_OPS_EMU_ORDER", "random")


SIZES = st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 41), st.integers(1, 70))
GEOMETRIES = st.one_of(
    st.builds(  # those with a kernel of their own
        lambda shape, pads: (*shape, pads),
        st.sampled_from(
            [
                ((2, 2), (1, 1), (4, 4)),
                ((1, 1), (2, 2), (4, 4)),
                ((1, 1), (1, 1), (4, 4)),
                ((2, 1), (1, 1), (1, 12)),
                ((1, 2), (1, 1), (12, 1)),
                ((1, 1), (2, 1), (1, 12)),
                ((1, 1), (1, 2), (12, 1)),
            ]
        ),
        st.tuples(*[st.integers(-2, 12)] * 4),
    ),
    st.tuples(
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        st.tuples(st.integers(1, 7), st.integers(1, 7)),
        st.tuples(*[st.integers(-3, 9)] * 4),
    ),
)
DTYPES = st.sampled_from(list(TOLERANCE))


def arguments(size, geometry, dtype, layout, seed, device="cpu"):
    """Input, filter and geometry of one case, or None where the filter does not fit."""
    (up, down, taps, pads), generator = geometry, torch.Generator().manual_seed(seed)
    g = Resample(*up, *down, *pads)
    if min(g.output_size(*size[2:], *taps)) < 1:
        return None
    x = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "sliced":
        x = torch.cat([x, x], dim=3)[..., ::2][..., : x.shape[3]]
    f = torch.randn(
        taps, generator=generator, dtype=torch.float64 if dtype == torch.float64 else torch.float32
    )
    if seed % 3 == 0:  # a separable one
        f = f[:, :1] * f[:1]
    return x.to(device), f.to(device), g


def exact(x, f, g, flip, gain):
    """The result in float64, and the sum of magnitudes that bounds its rounding error."""
    x, f = x.double().cpu(), f.double().cpu()
    bound = reference.upfirdn2d(x.abs(), f.abs(), g, flip, abs(gain))
    return reference.upfirdn2d(x, f, g, flip, gain), bound


def assert_close(got, wanted, bound, dtype, message=""):
    assert got.dtype == dtype
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # the step of subnormal numbers
    excess = (got.double().cpu() - wanted).abs() - TOLERANCE[dtype] * bound - smallest
    assert excess.numel() == 0 or excess.max() <= 0, f"{message} exceeds its bound by {excess.max():.3g}"


LAYOUTS = st.sampled_from(["contiguous", "channels_last", "sliced"])
UPFIRDN = {
    "size": SIZES,
    "geometry": GEOMETRIES,
    "dtype": DTYPES,
    "layout": LAYOUTS,
    "flip": st.booleans(),
    "seed": st.integers(0, 2**16),
}
PROPERTY = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class TestUpfirdn2d:
    @pytest.mark.parametrize("pads", [(60, 0, 0, 0), (0, 60, 0, 0), (-9, 60, 40, -9)])
    @pytest.mark.parametrize("size", [(1, 256, 5, 12), (2, 3, 5, 1)])
    def test_padding_wider_than_a_piece_of_a_row(self, kernels, size, pads):
        namespace, device = kernels
        for up, down in ((1, 1), (2, 1), (3, 2)):
            geometry = (up, up), (down, down), (4, 4), pads
            case = arguments(size, geometry, torch.float32, "channels_last", 1, device)
            if case is None:
                continue
            x, f, g = case
            wanted, bound = exact(x, f, g, False, 1.0)
            assert_close(_native.upfirdn2d(x, f, g, False, 1.0, namespace), wanted, bound, torch.float32)

    @pytest.mark.parametrize("size", [(1, 2, 4, 0), (2, 3, 0, 5)])
    def test_an_image_without_pixels_has_a_gradient_without_pixels(self, kernels, size):
        namespace, device = kernels
        f = torch.ones(4, 4, device=device)
        for run in (lambda *a: _native.upfirdn2d(*a, namespace), fast_torch.upfirdn2d):
            x = torch.zeros(size, device=device, requires_grad=True)
            y = run(x, f, Resample(1, 1, 1, 1, 5, 5, 5, 5), False, 1.0)
            (dx,) = torch.autograd.grad(y.sum(), x)
            assert y.count_nonzero() == 0
            assert dx.shape == x.shape

    @PROPERTY
    @given(**UPFIRDN)
    def test_equals_the_reference(self, kernels, size, geometry, dtype, layout, flip, seed):
        namespace, device = kernels
        case = arguments(size, geometry, dtype, layout, seed, device)
        if case is None:
            return
        os.environ["CUDA_OPS_EMU_ORDER"] = ORDERS[seed % 3]
        x, f, g = case
        wanted, bound = exact(x, f, g, flip, -1.3)
        got = _native.upfirdn2d(x, f, g, flip, -1.3, namespace)
        assert_close(got, wanted, bound, dtype)
        if layout == "channels_last" and not x.is_contiguous():
            assert got.is_contiguous(memory_format=torch.channels_last)

    @PROPERTY
    @given(**UPFIRDN)
    def test_the_torch_form_equals_the_reference(self, size, geometry, dtype, layout, flip, seed):
        case = arguments(size, geometry, dtype, layout, seed)
        if case is not None:
            x, f, g = case
            wanted, bound = exact(x, f, g, flip, -1.3)
            assert_close(fast_torch.upfirdn2d(x, f, g, flip, -1.3), wanted, bound, dtype)

    @settings(PROPERTY, max_examples=30)
    @given(**UPFIRDN)
    def test_the_gradient_is_the_adjoint(self, kernels, size, geometry, dtype, layout, flip, seed):
        """<dy, A x> = <A* dy, x>, with A* what autograd gives, and twice that."""
        case = arguments(size, geometry, torch.float64, layout, seed, kernels[1])
        if case is None or size[0] == 0:
            return
        x, f, g = case

        def compiled(x):
            return _native.upfirdn2d(x, f, g, flip, 0.7, kernels[0])

        def strided(x):
            return fast_torch.upfirdn2d(x, f, g, flip, 0.7)

        for run in (compiled, strided):
            x = x.detach().requires_grad_()
            y = run(x)
            dy = torch.randn_like(y).requires_grad_()
            (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
            torch.testing.assert_close((dy * y).sum(), (dx * x).sum(), rtol=1e-11, atol=1e-10)
            v = torch.randn_like(x)
            (ddy,) = torch.autograd.grad(dx, dy, v)
            torch.testing.assert_close(ddy, run(v).detach())

    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    @pytest.mark.parametrize(
        "case", [((2, 2), (1, 1), (4, 4), (2, 1, 2, 1)), ((3, 1), (2, 2), (3, 2), (1, -1, 2, 0))]
    )
    def test_torch_checks(self, kernels, case, layout):
        x, f, g = arguments((1, 2, 4, 3), case, torch.float64, layout, 3, kernels[1])
        x.requires_grad_()

        def function(x):
            return _native.upfirdn2d(x, f, g, False, 1.1, kernels[0])

        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)
        op = _native._op(kernels[0], "upfirdn2d")
        for sample in (x, x.detach().transpose(2, 3)):
            torch.library.opcheck(op, (sample, f, *g, False, 1.1))


def bias_act_numbers(act, dtype, clamp, layout, seed, device="cpu", size=(3, 5, 4, 7)):
    generator = torch.Generator().manual_seed(seed)
    spread = 2 if clamp is None else max(2, clamp)  # so that some elements are clipped
    x = (spread * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype)
    b = torch.randn(size[1], generator=generator, dtype=torch.float64).to(dtype)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "sliced":
        x = torch.cat([x, x], dim=3)[..., ::2][..., : x.shape[3]]
    return x.to(device), b.to(device)


class TestBiasAct:
    @settings(PROPERTY, max_examples=80)
    @given(
        act=st.sampled_from(list(ACTIVATIONS)),
        dtype=DTYPES,
        clamp=st.sampled_from([None, 0.7, 0.75, 181.02, 256.0]),
        layout=LAYOUTS,
        size=st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
        seed=st.integers(0, 2**16),
    )
    def test_values_and_both_orders(self, kernels, act, dtype, clamp, layout, size, seed):
        namespace, device = kernels
        os.environ["CUDA_OPS_EMU_ORDER"] = ORDERS[seed % 3]
        x, b = bias_act_numbers(act, dtype, clamp, layout, seed, device, size)
        dy, v = torch.randn_like(x), torch.randn_like(x)
        limit = clamp or 1e9
        unclipped = reference.bias_act(x.double(), b.double(), 1, act, 0.3, 1.4, None).abs().cpu()
        kink = 0.05 + torch.finfo(dtype).eps * limit  # so close to it either slope is right
        near = (unclipped - limit).abs() < kink
        results = []
        for run, kind in ((_native.bias_act, dtype), (reference.bias_act, torch.float64)):
            xs, bs = x.to(kind).detach().requires_grad_(), b.to(kind).detach().requires_grad_()
            extra = (namespace,) if run is _native.bias_act else ()
            y = run(xs, bs, 1, act, 0.3, 1.4, clamp, *extra)
            dys = dy.to(kind).requires_grad_()
            dx, db = torch.autograd.grad(y, (xs, bs), dys, create_graph=True)
            ddx, ddy = torch.autograd.grad((dx * v.to(kind)).sum(), (xs, dys), allow_unused=True)
            results.append(
                [y.detach(), dx.detach(), db.detach(), ddx if ddx is not None else 0 * dx.detach(), ddy]
            )
        smooth = ~near & ((x + b.reshape(1, -1, 1, 1)).abs() > 0.02).cpu()  # away from the corner of relu
        # derivatives come from the rounded result: where it saturates, that is all there is to know
        slack = {torch.float64: 1e-12, torch.float32: 4e-6, torch.float16: 1e-2, torch.bfloat16: 8e-2}[dtype]
        for name, got, wanted in zip(("y", "dx", "db", "ddx", "ddy"), *results, strict=True):
            if name == "db":
                if smooth.all():
                    torch.testing.assert_close(got.double(), wanted, rtol=10 * slack, atol=200 * slack)
                continue
            where = slice(None) if name == "y" else smooth
            scale = wanted.abs()[where].max() + 1 if wanted[where].numel() else 1
            error = (got.double().cpu() - wanted.cpu())[where].abs()
            limit = slack if name != "y" else 3 * TOLERANCE[dtype]
            assert error.numel() == 0 or error.max() <= limit * scale, f"{act} {name}: {error.max():.3g}"

    @pytest.mark.parametrize("act", list(ACTIVATIONS))
    def test_torch_checks(self, kernels, act):
        x, b = bias_act_numbers(act, torch.float64, None, "contiguous", 1, kernels[1], (2, 3, 4))
        x, b = x.requires_grad_(), b.requires_grad_()

        def function(x, b):
            return _native.bias_act(x, b, 1, act, 0.2, 1.4, 2.0, kernels[0])

        assert torch.autograd.gradcheck(function, (x, b))
        assert torch.autograd.gradgradcheck(function, (x, b))
        code, dy = ACTIVATIONS[act].code, torch.randn_like(x)
        rule = (b if act == "swish" else None, 1, code, 0.2, 1.4, 2.0)
        torch.library.opcheck(_native._op(kernels[0], "bias_act"), (x, b, *rule[1:]))
        torch.library.opcheck(_native._op(kernels[0], "bias_act_grad"), (dy.requires_grad_(), x, *rule))
        torch.library.opcheck(_native._op(kernels[0], "bias_act_grad2"), (dy, dy, x, *rule))

    @pytest.mark.parametrize("act", ["tanh", "softplus", "swish"])
    def test_the_third_derivative(self, kernels, act):
        x, b = bias_act_numbers(act, torch.float64, None, "contiguous", 2, kernels[1], (2, 3))
        thirds = []
        for run, extra in ((_native.bias_act, (kernels[0],)), (reference.bias_act, ())):
            z = x.detach().requires_grad_()
            value = run(z, b, 1, act, 0.0, 1.3, None, *extra).pow(2).sum()
            for _ in range(3):
                (value,) = torch.autograd.grad(value.sum(), z, create_graph=True)
            thirds.append(value.detach())
        torch.testing.assert_close(*thirds, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("clamp", [256 * 0.5**0.5, 0.7])  # neither is a float16 or bfloat16
    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    def test_no_gradient_of_any_order_passes_a_clipped_element(self, kernels, dtype, clamp):
        for act in ACTIVATIONS:
            x = torch.tensor([[1000.0, -1000.0]], dtype=dtype, device=kernels[1])
            clipped = reference.bias_act(x.double(), None, 1, act, 0.3, 1.4, None).abs() > clamp
            z = x.requires_grad_()
            value = _native.bias_act(z, None, 1, act, 0.3, 1.4, clamp, kernels[0])
            for order in range(1, 4):
                (value,) = torch.autograd.grad(value.sum(), z, create_graph=True, materialize_grads=True)
                assert not value[clipped].any(), f"{act}, order {order}: {value.tolist()}"
                value = value + 0 * z  # linear pieces have no graph left

    def test_a_bias_axis_of_one_entry_may_have_any_stride(self, kernels):
        """numpy's new axes have stride 0, and torch keeps it."""
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(32, 32))[None, None]).to(kernels[1])
        assert x.stride()[:2] == (0, 0)
        b = torch.ones(1, dtype=x.dtype, device=x.device)
        for act in ("lrelu", "swish"):
            results = []
            for run, extra in ((_native.bias_act, (kernels[0],)), (reference.bias_act, ())):
                xs, bs = x.detach().requires_grad_(), b.detach().requires_grad_()
                y = run(xs, bs, 1, act, 0.2, 1.4, 0.75, *extra)
                results.append((y.detach(), *torch.autograd.grad(y.square().sum(), (xs, bs))))
            torch.testing.assert_close(*results)

    def test_a_vector_has_a_bias_for_every_element(self, kernels):
        namespace, device = kernels
        x, b = (torch.randn(90, device=device, dtype=torch.float64, requires_grad=True) for _ in range(2))
        rule = (0, "tanh", 0.0, 1.5, None)
        got = torch.autograd.grad(_native.bias_act(x, b, *rule, namespace).square().sum(), (x, b))
        wanted = torch.autograd.grad(reference.bias_act(x, b, *rule).square().sum(), (x, b))
        torch.testing.assert_close(got, wanted)

    def test_the_bias_axis_may_be_any(self, kernels):
        x = torch.randn(4, 6, 8, device=kernels[1])
        for dim in range(3):
            b = torch.randn(x.shape[dim], device=kernels[1])
            wanted = reference.bias_act(x, b, dim, "lrelu", 0.2, 1.0, None)
            torch.testing.assert_close(
                _native.bias_act(x, b, dim, "lrelu", 0.2, 1.0, None, kernels[0]), wanted
            )


def test_half_precision_conversions_are_torchs(native):
    """Every float16 and bfloat16, subnormals and infinities included, through the kernels' conversions."""
    for dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
        got = _native.bias_act(every, None, 0, "linear", 0.0, 1.0, None)
        torch.testing.assert_close(got, every, rtol=0, atol=0, equal_nan=True)
    wide = torch.randn(4096, dtype=torch.float64).exp().mul(torch.logspace(-9, 6, 4096, dtype=torch.float64))
    for dtype in (torch.float16, torch.bfloat16):
        x = wide.to(dtype)  # a gain of 1/3 makes the rounding matter
        got = _native.bias_act(x, None, 0, "linear", 0.0, 1 / 3, None)
        torch.testing.assert_close(got, (x.float() * torch.tensor(1 / 3)).to(dtype), rtol=0, atol=0)
