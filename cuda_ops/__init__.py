"""`upfirdn2d` and `bias_act`, the operations that StyleGAN2 spends its memory traffic on; `conv3x3` for CPUs.

Nothing is compiled at import. The functions run on any device; where compiled kernels are there and
faster, they are used; `status` tells which, and why.
"""

from __future__ import annotations

from cuda_ops._allocator import tune_allocator
from cuda_ops._bias_act import bias_act
from cuda_ops._conv3x3 import conv3x3, conv3x3_pays
from cuda_ops._dispatch import transformed
from cuda_ops._status import Status, rebuild, status
from cuda_ops._upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

__all__ = [
    "Status",
    "bias_act",
    "conv3x3",
    "conv3x3_pays",
    "downsample2d",
    "filter2d",
    "rebuild",
    "setup_filter",
    "status",
    "transformed",
    "tune_allocator",
    "upfirdn2d",
    "upsample2d",
]

tune_allocator()
