"""Micro-batches as CUDA graphs: at 64 px a step is thousands of kernels, each shorter than its launch.

The first micro-batches of every kind (with or without discriminator, R1 and so on) run as usual, the next is recorded,
and from then on one launch replays it. A recording reads and writes fixed memory: its inputs are copied there, and the
gradients that it leaves are handed to the parameters. Random numbers follow torch's seed as in an ordinary run.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import torch
from torch import Tensor, nn

from stylegan_surv.errors import InputError
from stylegan_surv.gan.training.objective import Memory, Objective, Terms

WARM_UP = 3  # runs of a kind before it is recorded, in which libraries choose their algorithms


class Recorded:
    """`Objective.backward` by recordings; one micro-batch of a process per step, since gradients are not added up."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.runs: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, _Recording] = {}
        self.stream = torch.cuda.Stream(objective.device)

    def backward(self, real: Tensor, memory: Memory, share: float) -> tuple[Terms, Tensor]:
        """As `Objective.backward`; every parameter's gradient must be None before."""
        memory = replace(memory, p=torch.as_tensor(memory.p, device=real.device, dtype=real.dtype))
        kind = (self.objective.kind(memory.step), real.shape, memory.bank.shape, share)
        if self.runs.get(kind, 0) < WARM_UP:
            self.runs[kind] = self.runs.get(kind, 0) + 1
            return self._as_usual(real, memory, share)
        if kind not in self.recordings:
            try:
                self.recordings[kind] = _Recording(self.objective, real, memory, share)
            except RuntimeError as cause:
                raise InputError(
                    f"a training step cannot be recorded as a CUDA graph here ({cause}): set cuda_graphs to false in "
                    "the recipe, and give the same command again"
                ) from cause
        return self.recordings[kind].replay(real, memory)

    def _as_usual(self, real: Tensor, memory: Memory, share: float) -> tuple[Terms, Tensor]:
        """On another stream than torch's default, as recording demands of what goes before it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = self.objective.backward(real, memory, share)
        torch.cuda.current_stream().wait_stream(self.stream)
        return found


class _Recording:
    def __init__(self, objective: Objective, real: Tensor, memory: Memory, share: float) -> None:
        assert isinstance(memory.p, Tensor)  # `Recorded.backward` made it one
        self.real, self.p = real.clone(), memory.p.clone()
        fixed = replace(memory, p=self.p)  # bank and path mean change in place
        nets = [net for net in vars(objective.players).values() if isinstance(net, nn.Module)]
        moved = [p for net in nets for p in net.parameters() if p.requires_grad]
        for p in moved:
            p.grad = None
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.found = objective.backward(self.real, fixed, share)
        self.gradients = [(p, p.grad) for p in moved]

    def replay(self, real: Tensor, memory: Memory) -> tuple[Terms, Tensor]:
        self.real.copy_(real)
        self.p.copy_(memory.p)  # type: ignore[arg-type]
        self.graph.replay()
        for p, gradient in self.gradients:
            p.grad = gradient
        return self.found
