"""One thread everywhere, since tests run side by side; and no connection leaves the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
OFFLINE = str(Path(__file__).parent / "offline")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (OFFLINE, os.environ.get("PYTHONPATH")))
)  # for subprocesses


def pytest_configure() -> None:
    import torch

    import cuda_ops

    if OFFLINE not in sys.path:
        sys.path.insert(0, OFFLINE)
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401

    cuda_ops.tune_allocator()  # as the command line does
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 80 simulated patients with the bundled generator; some 20 s, so that its tests are one group."""
    from stylegan_surv.demo import DemoSettings, demo

    folder = tmp_path_factory.mktemp("small") / "study"
    demo(folder, DemoSettings(n=80, models=("cox-ridge",), permutations=0, pictures=False))
    return folder
