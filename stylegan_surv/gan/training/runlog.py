"""A run's log: one JSON line for every record, and TensorBoard's scalars where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stylegan_surv._files import write_text
from stylegan_surv.errors import InputError

FORMAT = 1  # of the records
DIGITS = 5  # of a scalar behind the point
LOG_FILE, BOARD = "log.jsonl", "tensorboard"


class RunLog:
    """Records of a run in ``folder``, in order of the images seen.

    Parameters
    ----------
    folder : Path
        The run's folder.
    tensorboard : bool
        Also write what TensorBoard shows.

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
        """All records; a line that a kill or a full disk cut off is left out.

        Raises
        ------
        InputError
            If the log is of another version's format.
        """
        found = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if record.get("format") != FORMAT:
                raise InputError(
                    f"{self.path} has records of format {record.get('format')}; this version reads format {FORMAT}: "
                    "finish the run with the version that began it, or give a new output folder"
                )
            found.append(record)
        return found

    def forget_after(self, images: int) -> None:
        """Drop records of steps that are done again: a run that was killed goes on from its last saved state."""
        if not self.path.exists():
            return
        kept = [record for record in self.records() if record["images"] <= images]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        """Write ``record`` and ``scalars`` as one line, and the scalars for TensorBoard."""
        line = {"format": FORMAT, **record, **{k: round(v, DIGITS) for k, v in scalars.items()}}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
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
