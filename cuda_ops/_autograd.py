"""Torch's custom functions, called with types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function


def applied(function: type[Function], *inputs: Any) -> Tensor:
    """``function.apply(*inputs)``, which torch leaves without types."""
    apply: Callable[..., Tensor] = function.apply
    return apply(*inputs)
