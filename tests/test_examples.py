"""Every example runs to its end, as a reader would start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
LONG = {"finetune.py", "study.py"}  # a minute and more of one core
FILES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.name in LONG else [])
    for path in sorted(FOLDER.glob("*.py"))
]


@pytest.mark.parametrize("path", FILES)
def test_example(path, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "Traceback" not in found.stderr
