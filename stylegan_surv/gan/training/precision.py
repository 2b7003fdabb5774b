"""Which arithmetic a run uses where its recipe leaves that to the machine.

Half precision pays on processors that have units for it, and costs much on those that emulate it; so it is measured,
once, and the choice is kept with the run's state.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_surv.gan.training import parallel

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
TURNS = 3
WORTH = 1.2  # how many times faster bf16 must be: it is less exact


def choose(device: torch.device) -> str:
    """``bf16``, ``fp16`` or ``float32``: the best of this device; the same in all processes of a run.

    A GPU that has bf16 takes it, an older one fp16. A CPU takes bf16 if a convolution with its gradients is at least
    1.2 times as fast as in single precision.
    """
    if device.type == "cuda":
        modern = torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere, the first with bf16 units
        return "fp16" if parallel.agree(not modern) else "bf16"
    seconds = [_seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16)]
    return "float32" if parallel.agree(seconds[0] < WORTH * seconds[1]) else "bf16"


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Of a typical convolution, forth and back, at its best."""
    x = torch.randn(4, 32, 32, 32, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    weight = torch.randn(32, 32, 3, 3, device=device, dtype=dtype, requires_grad=True)
    taken = []
    for _ in range(TURNS):
        start = time.process_time()
        torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), (x, weight))
        taken.append(time.process_time() - start)
    return min(taken)


class LossScale:
    """The factor that keeps fp16's gradients from vanishing; 1 in every other precision.

    A step whose gradients overflow is left out and the factor halved; after ``PATIENCE`` good steps it doubles
    (Micikevicius et al. 2018, arXiv 1710.03740).
    """

    START, PATIENCE = 2.0**12, 1000

    def __init__(self, precision: str) -> None:
        self.active = precision == "fp16"
        self.value = self.START if self.active else 1.0
        self.good = 0

    def undo(self, gradients: list[Tensor]) -> None:
        """Divide gradients by the factor, in place."""
        if self.active:
            for gradient in gradients:
                gradient.div_(self.value)

    def fits(self, finite: bool) -> bool:
        """Take note whether a step's gradients were finite; False if the step is to be left out.

        With a factor of 1 there is nothing left to lower: the caller will find that the gradients are not finite.
        """
        if not self.active or (not finite and self.value <= 1):
            return True
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good == self.PATIENCE:
            self.value, self.good = self.value * 2, 0
        return finite
