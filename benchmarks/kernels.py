"""Registers, spills and shared memory of the CUDA kernels on every architecture that the installed nvcc knows.

``python -m benchmarks.kernels [--architectures 80,90] [--json]``. No GPU is needed. About half a minute an
architecture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cuda_ops import _build, _ptxas


def known() -> list[str]:
    """Architectures ("75", "80", ...) that nvcc compiles for."""
    command = [_build.find_nvcc(), "--list-gpu-code"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return sorted((name.removeprefix("sm_") for name in listed), key=int)


def measure(architectures: list[str]) -> list[dict[str, Any]]:
    """Compile with the production flags; the largest of every resource by architecture."""
    release = _build.version_of(_build.find_nvcc()).partition("release ")[2].partition(",")[0]
    rows = []
    for name in architectures:
        kernels = []
        for step in _build.cuda_plan_for((name,), release).steps:
            if not step.inputs[0].endswith(".cu"):
                continue
            with tempfile.TemporaryDirectory() as folder:
                command = [*step.words(), "-o", str(Path(folder) / step.output)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
            kernels += _ptxas.usage(done.stdout + done.stderr)
        largest = {
            field: max(getattr(k, field) for k in kernels) for field in ("registers", "spilled", "shared")
        }
        rows.append({"architecture": f"sm_{name}", "kernels": len(kernels), **largest})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", help="comma-separated, e.g. 80,90; all that nvcc knows by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = measure(options.architectures.split(",") if options.architectures else known())
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'':<8}{'kernels':>8}{'registers':>10}{'spilled, B':>12}{'shared, B':>11}")
    for row in rows:
        print(
            f"{row['architecture']:<8}{row['kernels']:>8}{row['registers']:>10}{row['spilled']:>12}{row['shared']:>11}"
        )


if __name__ == "__main__":
    main()
