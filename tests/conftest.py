"""One thread everywhere: tests run side by side, and results must not depend on the number of cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    import torch

    import cuda_ops

    cuda_ops.tune_allocator()  # as the command line does
    torch.set_num_threads(1)
