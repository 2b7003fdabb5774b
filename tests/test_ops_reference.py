"""The reference against scipy, and the strided form against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cuda_ops
from cuda_ops import bias_act, upfirdn2d
from cuda_ops.reference import ACTIVATIONS


def scipy_upfirdn2d(x, f, up, down, padding, flip, gain):
    """One image [h, w] through `scipy.signal.upfirdn`, row after row and column after column."""
    if flip:
        f = f[::-1, ::-1]
    full = np.zeros((x.shape[0] * up[1], x.shape[1] * up[0]))
    full[:: up[1], :: up[0]] = x
    x0, x1, y0, y1 = padding
    full = np.pad(full, ((max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0))))
    full = full[max(-y0, 0) : full.shape[0] - max(-y1, 0), max(-x0, 0) : full.shape[1] - max(-x1, 0)]
    valid = scipy.signal.convolve2d(full, f, mode="valid")
    return gain * valid[:: down[1], :: down[0]]


CASES = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "taps": st.tuples(st.integers(1, 6), st.integers(1, 6)),
        "up": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "down": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(*[st.integers(-3, 7)] * 4),
        "flip": st.booleans(),
        "seed": st.integers(0, 2**16),
    }
)


def possible(case):
    (h, w), (fh, fw), (ux, uy), (x0, x1, y0, y1) = case["size"], case["taps"], case["up"], case["padding"]
    return h * uy + y0 + y1 >= fh and w * ux + x0 + x1 >= fw


@settings(max_examples=150, deadline=None)
@given(CASES.filter(possible))
def test_upfirdn2d_is_scipys(case):
    rng = np.random.default_rng(case["seed"])
    x = rng.normal(size=(2, 3, *case["size"]))
    f = rng.normal(size=case["taps"])
    wanted = np.stack(
        [
            [scipy_upfirdn2d(c, f, case["up"], case["down"], case["padding"], case["flip"], 1.7) for c in n]
            for n in x
        ]
    )
    for impl in ("reference", "torch"):
        got = upfirdn2d(
            torch.tensor(x),
            torch.tensor(f),
            case["up"],
            case["down"],
            case["padding"],
            case["flip"],
            1.7,
            impl=impl,
        )
        np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=1e-12, err_msg=impl)


@pytest.mark.parametrize("gain", [4.0, -4.0])
def test_a_long_filter_stays_in_the_range_of_half_precision(gain):
    x = torch.full((1, 1, 32, 32), 4e4, dtype=torch.float16)
    y = upfirdn2d(x, cuda_ops.setup_filter([1.0] * 12), up=2, padding=6, gain=gain)
    assert y.isfinite().all()
    assert y[0, 0, 20, 20].item() == pytest.approx(1e4 * gain, rel=2e-3)


def test_a_limit_beyond_the_range_of_the_dtype_is_none():
    x = torch.tensor([1e4, -6e4], dtype=torch.float16)
    assert torch.equal(bias_act(x, dim=0, clamp=1e5, impl="reference"), x)


def test_upfirdn_of_scipy_is_the_full_padding():
    x, h = np.arange(1.0, 6.0), np.array([1.0, -2.0, 0.5, 3.0])
    wanted = scipy.signal.upfirdn(h, x, up=3, down=2)
    got = upfirdn2d(torch.tensor(x)[None, None, None], torch.tensor(h)[None], (3, 1), (2, 1), (3, 1, 0, 0))
    np.testing.assert_allclose(got[0, 0, 0].numpy(), wanted, atol=1e-12)


def test_a_separable_filter_is_its_outer_product():
    x = torch.randn(2, 3, 16, 17, dtype=torch.float64)
    for taps in ([1, 3, 3, 1], list(range(1, 13))):
        f = cuda_ops.setup_filter(taps, separable=True)
        assert f.ndim == 1
        one = upfirdn2d(x, f, 2, 1, 6, gain=4.0)
        torch.testing.assert_close(one, upfirdn2d(x, torch.outer(f.double(), f.double()), 2, 1, 6, gain=4.0))


@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_helpers_keep_size_brightness_and_centre(impl):
    f = cuda_ops.setup_filter([1, 3, 3, 1])
    assert torch.isclose(f.sum(), torch.tensor(1.0))
    x = torch.ones(1, 2, 10, 12)
    assert cuda_ops.upsample2d(x, f).shape == (1, 2, 20, 24)
    assert cuda_ops.downsample2d(x, f).shape == (1, 2, 5, 6)
    assert cuda_ops.filter2d(x, f).shape == x.shape
    torch.testing.assert_close(cuda_ops.upsample2d(x, f)[..., 3:-3, 3:-3], torch.ones(1, 2, 14, 18))
    torch.testing.assert_close(cuda_ops.downsample2d(x, f)[..., 1:-1, 1:-1], torch.ones(1, 2, 3, 4))
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    up = cuda_ops.upsample2d(ramp, f)[0, 0, 8]
    torch.testing.assert_close(up[4:-4], ((torch.arange(32.0) - 0.5) / 2)[4:-4])  # pixel centres stay


FORMULAS = {
    "linear": lambda x, a: x,
    "relu": lambda x, a: np.maximum(x, 0),
    "lrelu": lambda x, a: np.where(x > 0, x, a * x),
    "tanh": lambda x, a: np.tanh(x),
    "sigmoid": lambda x, a: scipy.special.expit(x),
    "elu": lambda x, a: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x, a: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "softplus": lambda x, a: np.logaddexp(x, 0),
    "swish": lambda x, a: x * scipy.special.expit(x),
}


@pytest.mark.parametrize("act", list(ACTIVATIONS))
def test_bias_act_is_its_formula(act):
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(3, 5, 4)) * 3, rng.normal(size=5)
    wanted = FORMULAS[act](x + b[:, None], 0.1) * 1.3
    got = bias_act(torch.tensor(x), torch.tensor(b), act=act, alpha=0.1, gain=1.3)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-12)
    clamped = bias_act(torch.tensor(x), torch.tensor(b), act=act, alpha=0.1, gain=1.3, clamp=0.5)
    np.testing.assert_allclose(clamped.numpy(), wanted.clip(-0.5, 0.5), atol=1e-12)


@pytest.mark.parametrize("impl", ["reference", "torch", "native"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"act": "lrelu", "alpha": -0.5}, r"alpha must be finite and not negative, got -0\.5"),
        ({"act": "tanh", "gain": 0.0}, r"gain must be finite and positive, got 0\.0"),
        ({"act": "softplus", "gain": -1.0}, r"gain must be finite and positive, got -1\.0"),
        ({"gain": float("nan")}, "gain must be finite and positive, got nan"),
    ],
)
def test_a_result_that_does_not_tell_its_derivative_is_refused(wrong, message, impl):
    with pytest.raises(ValueError, match=message):
        bias_act(torch.zeros(1, 3), **wrong, impl=impl)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, f: upfirdn2d(x[0], f), r"\[n, c, h, w\]"),
        (lambda x, f: upfirdn2d(x.long(), f), "floating point"),
        (lambda x, f: upfirdn2d(x, f, up=0), "up must be a positive integer"),
        (lambda x, f: upfirdn2d(x, f, down=(1, 2, 3)), "down must be"),
        (lambda x, f: upfirdn2d(x, f, padding=(1, 2, 3)), "padding must be"),
        (lambda x, f: upfirdn2d(x, f, padding=-3), "longer than the padded image"),
        (lambda x, f: bias_act(x, torch.zeros(x.shape[1], device="meta")), "b on meta: move the bias"),
        (lambda x, f: upfirdn2d(x, f.requires_grad_()), "constant"),
        (lambda x, f: upfirdn2d(x, f, impl="cuda"), "impl must be"),
        (lambda x, f: bias_act(x, act="gelu"), "act must be one of linear"),
        (lambda x, f: bias_act(x, torch.zeros(4)), "one per entry of axis 1"),
        (lambda x, f: bias_act(x, torch.zeros(3).double()), "float32"),
        (lambda x, f: bias_act(x, dim=4), "dim must be an axis"),
        (lambda x, f: bias_act(x, clamp=0.0), "clamp must be positive"),
    ],
)
def test_wrong_arguments_say_what_is_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 3, 6, 6), torch.ones(4, 4))
