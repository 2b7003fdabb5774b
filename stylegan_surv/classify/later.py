"""What is added to a trained study: explanations and averages, from the files that it has left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stylegan_surv._files import write_arrays, write_json
from stylegan_surv._records import to_json
from stylegan_surv._types import Floats, Progress
from stylegan_surv.classify.averages import AverageSettings, SexAverages, average_faces, averages_record
from stylegan_surv.classify.chips import ChipSet, ChipSettings, make_chips
from stylegan_surv.classify.explain import Explanation, explain
from stylegan_surv.classify.people import People
from stylegan_surv.classify.result import FORMAT, read_people_of, read_record, read_scores
from stylegan_surv.classify.study import CHIPS, TRAINING, StudySettings, trunk_of
from stylegan_surv.classify.training import TrainSettings
from stylegan_surv.errors import InputError

EXPLANATION, AVERAGES = "explanation", "averages"  # .json with the numbers, .safetensors with the pictures


@dataclass(frozen=True, eq=False)
class Opened:
    """A trained study with its chips.

    Attributes
    ----------
    chipset : ChipSet
    settings : StudySettings
    """

    chipset: ChipSet
    settings: StudySettings


def open_study(folder: str | Path) -> Opened:
    """Read a study's chips and settings again; photographs must lie where they were."""
    folder = Path(folder)
    given: dict[str, Any] = read_record(folder)["settings"]
    parts = {"chip": ChipSettings(**given["chip"]), "train": TrainSettings(**given["train"])}
    settings = StudySettings(**{**given, **parts})
    return Opened(make_chips(People(read_people_of(folder)), folder / CHIPS, settings.chip), settings)


def add_explanation(folder: str | Path, progress: Progress | None = None) -> Explanation:
    """Explain the networks of a study and write it there.

    Raises
    ------
    InputError
        If the study has no network.
    """
    folder = Path(folder)
    opened = open_study(folder)
    if not opened.settings.network:
        raise InputError(f"{folder} was trained without a network; there is nothing to explain.")
    kept = trunk_of(opened.chipset, folder, opened.settings)
    fold = read_scores(folder)["fold"].to_numpy(int)
    found = explain(opened.chipset, kept, fold, opened.settings.train, folder / TRAINING, progress)
    pictures: dict[str, Floats] = {"face": found.face}
    for kind, maps in (("cam", found.cam), ("guided", found.guided)):
        pictures |= {f"{kind}.{name}": one for name, one in maps.items()}
    record = {
        "shares": found.shares,
        "believable": found.believable,
        "random_correlation": found.random_correlation,
        "seed_correlation": found.seed_correlation,
        "guided_distance": found.guided_distance,
        "people": found.people,
    }
    _write(folder, EXPLANATION, record, pictures)
    return found


def add_averages(
    folder: str | Path, settings: AverageSettings | None = None, progress: Progress | None = None
) -> tuple[SexAverages, ...]:
    """Compare the average faces of a study and write it there."""
    folder = Path(folder)
    found = average_faces(open_study(folder).chipset, settings, progress)
    pictures: dict[str, Floats] = {}
    for one in found:
        image = one.image
        for name in ("case", "control", "difference", "low", "high", "beyond"):
            pictures[f"{one.sex}.{name}"] = np.asarray(getattr(image, name), float)
        pictures |= {f"{one.sex}.mean": one.shape.mean, f"{one.sex}.shift": one.shape.shift}
        pictures[f"{one.sex}.found"] = one.shape.found.astype(float)
    _write(folder, AVERAGES, {"sexes": averages_record(found)}, pictures)
    return found


def _write(folder: Path, name: str, record: Mapping[str, Any], pictures: Mapping[str, Floats]) -> None:
    write_json(folder / f"{name}.json", to_json({"format": FORMAT, **record}))
    packed = {key: np.ascontiguousarray(value, np.float32) for key, value in pictures.items()}
    write_arrays(folder / f"{name}.safetensors", packed, {"format": str(FORMAT)})
