"""A run's log: one JSON line for every record, and TensorBoard's scalars where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stylegan_surv.errors import InputError

LOG_FILE, BOARD = "log.jsonl", "tensorboard"


class RunLog:
    """Records of a run in ``folder``, in order of the images seen.

    Parameters
    ----------
    folder : the run's folder.
    tensorboard : also write what TensorBoard shows.

    Raises
    ------
    InputError
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        self.path = folder / LOG_FILE
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as missing:
                raise InputError(
                    "the recipe asks for tensorboard, which is not installed: pip install tensorboard"
                ) from missing
            self._board = SummaryWriter(str(folder / BOARD))

    def records(self) -> list[dict[str, Any]]:
        """All records; a line that a kill or a full disk cut off is left out."""
        found = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def forget_after(self, images: int) -> None:
        """Drop records of steps that are done again: a run that was killed goes on from its last saved state."""
        if not self.path.exists():
            return
        kept = [record for record in self.records() if record["images"] <= images]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(self.path)

    def append(self, record: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        """Write ``record`` and ``scalars`` as one line, and the scalars for TensorBoard."""
        with open(self.path, "a") as file:
            file.write(json.dumps({**record, **{k: round(v, 5) for k, v in scalars.items()}}) + "\n")
        if self._board is not None:
            for k, v in scalars.items():
                self._board.add_scalar(f"{record['kind']}/{k}", v, record["images"])
            self._board.flush()


class Means:
    """Running means of named numbers; each over the steps that had it."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, record: Mapping[str, float]) -> None:
        """Take the numbers of one step."""
        for k, v in record.items():
            total, count = self.sums.get(k, (0.0, 0))
            self.sums[k] = total + v, count + 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {k: total / count for k, (total, count) in self.sums.items()}
        self.sums = {}
        return means
