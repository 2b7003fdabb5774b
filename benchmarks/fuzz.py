"""Whether damaged files end in one message: photographs, tables, JSON, Parquet and checkpoints, mutated at random.

``python -m benchmarks.fuzz [--cases N] [--seed S] [--command-line K] [--json]``: good files of every kind are written,
each case mutates one and reads it as the package does. A case passes if the file is read, or refused by an
``InputError`` of one message; anything else (another exception, more than ten seconds, a program that is started) is
listed with its seed. ``K`` further cases run through the command line: exit code 0, 1 or 2, no traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import stylegan_surv as ss
from stylegan_surv.attribute import load_attribute
from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips, load_image
from stylegan_surv.gan import Generator, GeneratorConfig
from stylegan_surv.gan.formats.checkpoint import save_network
from stylegan_surv.gan.formats.rosinality import write as write_rosinality
from stylegan_surv.inversion import Latents
from stylegan_surv.study import Study, StudySettings
from stylegan_surv.study.page import PageData
from stylegan_surv.survival.engines.persist import read_model_card

LONGEST = 10  # seconds that a case may take
TEXT_LIMIT = 4000  # characters of one message
TOKENS = (
    "", " ", "NA", "nan", "-1", "1e400", "0", "999999999999999999999", "1,5", "1.234,5", "1.2.3", "=1+1", "@x", "<0.3",
    "../a.png", "/etc/passwd", "a\x00b", "é", "e\u0301", "\u202e", "𝔘", '"', "'", ";", "\t", "2020-02-30", "31.12.1999",
    "$x^{$", "<b>", "None", "true", "x" * 3000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**63, 1e308, float("nan"), float("inf"), "", "x", "../x", [], {}, [[]], {"a": {}},
    ["a"] * 50, [0.0] * 7, "NaN", -0.5, {"format": 1},
)  # fmt: skip
STARTED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn")


class TooLong(BaseException):
    """A case ran into the time limit."""


class Executed(BaseException):
    """A file made the process start a program."""


@dataclass
class Tally:
    """What the cases came to.

    Attributes
    ----------
    outcomes : Counter
        (kind, "read" or "refused") → cases.
    faults : list of str
        Cases that did not pass: kind, file, seed, what happened.
    slowest : float
        Seconds of the longest case.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Subject:
    """A good file, and how the package reads it.

    Attributes
    ----------
    kind : {"photograph", "table", "json", "arrays", "checkpoint"}
    path : Path
        In the folder where it is read.
    read : callable
        Called with that path.
    """

    kind: str
    path: Path
    read: Reader


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes: bits, cuts, copies, zeros, extreme numbers, pieces of text."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, how = rng.randrange(len(out) + 1), rng.randrange(7)
        size = rng.choice((1, 2, 4, 8, 64, 1024))
        if how == 0 and out:
            for _ in range(rng.randint(1, 8)):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif how == 1:
            del out[at:]
        elif how == 2:
            del out[at : at + size]
        elif how == 3:
            out[at:at] = out[at : at + size]
        elif how == 4:
            out[at : at + size] = bytes(size)
        elif how == 5:
            number = rng.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            out[at : at + 4] = number.to_bytes(4, rng.choice(("little", "big")))
        else:
            out[at:at] = rng.choice(TOKENS).encode("utf-8", "surrogatepass")
    return bytes(out)


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON text with one or two of its values replaced, removed or added; sometimes only bytes are changed."""
    if rng.random() < 0.2:
        return mutated(data, rng)
    record = json.loads(data)
    for _ in range(rng.randint(1, 2)):
        places = list(_containers(record))
        if not places:
            return json.dumps(rng.choice(VALUES)).encode()
        place = rng.choice(places)
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if rng.random() < 0.25:
            del place[key]
        else:
            place[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(record).encode()


def _containers(value: Any) -> Iterator[Any]:
    """Every mapping and list in a record that holds something."""
    if isinstance(value, dict | list) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value[:20]:
            yield from _containers(item)


def mutated_table(data: bytes, rng: random.Random) -> bytes:
    """A CSV text with some of its cells replaced; sometimes only bytes are changed."""
    if rng.random() < 0.3:
        return mutated(data, rng)
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(rng.randint(1, 5)):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = rng.choice(TOKENS)
    text = rng.choice(("\n", "\r\n")).join(rng.choice((",", ",", ";")).join(row) for row in rows)
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-16", "latin-1")), "replace")


MUTATORS: dict[str, Callable[[bytes, random.Random], bytes]] = {"json": mutated_json, "table": mutated_table}


def write_subjects(folder: Path) -> list[Subject]:
    """Good files of every kind, and their readers."""
    rng = np.random.default_rng(0)
    subjects = _pictures(folder, rng)
    photos = [f"p{i}.png" for i in range(40)]
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(40)], "photo": photos})
    table["time"], table["event"] = np.round(rng.exponential(3, 40) + 0.1, 3), rng.integers(0, 2, 40)
    table["age"], table["site"] = np.round(rng.normal(60, 9, 40), 1), rng.choice(["A", "B"], 40)
    table.to_csv(folder / "clinical.csv", index=False)
    given = set(photos)

    def read_table(path: Path) -> None:
        cohort = ss.read_cohort(path, check_photos=False)
        kept = cohort.table[["photo", "patient_id"]].itertuples(index=False)
        shifted = [
            (p, q) for p, q in kept if p in given and q in set(table["patient_id"]) and p[1:-4] != q[1:]
        ]
        untouched = shifted and not _cells_touched(path, shifted)
        if untouched:
            raise AssertionError(f"names have shifted: {shifted[:3]}")

    subjects.append(Subject("table", folder / "clinical.csv", read_table))
    torch.manual_seed(0)
    generator = Generator(
        GeneratorConfig(16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)
    )
    save_network(generator, folder / "net.safetensors", {"name": "tiny"})
    write_rosinality(folder / "net.pt", generator)
    subjects += [
        Subject("checkpoint", folder / name, ss.load_generator) for name in ("net.safetensors", "net.pt")
    ]
    return subjects + _study(folder, table)


def _pictures(folder: Path, rng: np.random.Generator) -> list[Subject]:
    pixels = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((96, 120))
    formats = ("jpg", "png", "tif", "webp", "bmp", "gif", "jp2", "avif")
    for suffix in formats:
        picture.save(folder / f"photo.{suffix}")
    return [Subject("photograph", folder / f"photo.{suffix}", load_image) for suffix in formats]


def _study(folder: Path, table: pd.DataFrame) -> list[Subject]:
    """A small study with its model and the latents, whose files are read back."""
    rng, names = np.random.default_rng(1), list(table["patient_id"])
    about = {"generator": "g", "generator_sha256": "0" * 64, "method": "encoder"}
    latents = Latents.from_arrays(rng.normal(size=(40, 2, 4)).astype(np.float32), names, names, about)
    latents.save(folder / "latents")
    cohort = ss.read_cohort(table.assign(photo=[f"{name}.png" for name in names]), check_photos=False)
    few = StudySettings(folds=2, repeats=1, permutations=0, n_boot=20, edited=0, n_jobs=1)
    ss.evaluate(latents, cohort, clinical=["age"], settings=few).save(folder / "study")
    chips = Chips.create(folder / "chips", [np.zeros((32, 32, 3), np.uint8)] * 2, ["a", "b"])
    study, model = folder / "study", folder / "study" / "model"

    def at(depth: int, read: Callable[[Path], object]) -> Reader:
        return lambda path: read(path.parents[depth])

    subjects = [
        Subject("json", study / "metrics.json", at(0, _draw)),
        Subject("json", study / "study.json", at(0, _draw)),
        Subject("json", model / "card.json", at(0, read_model_card)),
        Subject("json", folder / "latents" / "_latents.json", at(0, Latents.open)),
        Subject("arrays", study / "oof.parquet", at(0, _draw)),
        Subject("arrays", chips.folder / "_chips.parquet", at(0, Chips.open)),
        *(Subject("arrays", path, at(0, Latents.open)) for path in (folder / "latents").glob("part-*")),
    ]
    for path in sorted(folder.rglob("page.json")) + sorted(folder.rglob("page.safetensors")):
        kind = "json" if path.suffix == ".json" else "arrays"
        subjects.append(Subject(kind, path, at(0, PageData.open)))
    subjects += [
        Subject("arrays", path, at(0, load_attribute)) for path in folder.rglob("direction.safetensors")
    ]
    return subjects


def _draw(folder: Path) -> None:
    """Read a study, and draw its report."""
    Study.open(folder).report(folder / "fuzzed.html")


def _cells_touched(path: Path, pairs: list[tuple[str, str]]) -> bool:
    """Whether the table itself gives these pairs of names: then it was the mutation that moved them."""
    text = path.read_bytes().decode("latin-1")
    return any(photo in line and patient in line for photo, patient in pairs for line in text.splitlines())


def run(cases: int, seed: int = 0, folder: Path | None = None) -> Tally:
    """Mutate and read so many files.

    Parameters
    ----------
    cases : int
    seed : int, default 0
        The mutation of case i depends on seed + i alone.
    folder : path, optional
        Where the files are written; a temporary folder by default.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as place:
            return run(cases, seed, Path(place))
    tally, watching = Tally(), [False]

    def watch(event: str, _arguments: tuple[Any, ...]) -> None:
        if watching[0] and event in STARTED:
            raise Executed(event)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subjects = write_subjects(folder)
        good = {subject.path: subject.path.read_bytes() for subject in subjects}
        sys.addaudithook(watch)
        for subject in subjects:  # unharmed, each is read
            subject.read(subject.path)
        by_kind: dict[str, list[Subject]] = {}
        for subject in subjects:
            by_kind.setdefault(subject.kind, []).append(subject)
        kinds = sorted(by_kind)
        for case in range(seed, seed + cases):
            rng = random.Random(case)
            subject = rng.choice(by_kind[kinds[case % len(kinds)]])
            data = MUTATORS.get(subject.kind, mutated)(good[subject.path], rng)
            subject.path.write_bytes(data)
            watching[0] = True
            _one(subject, f"{subject.kind} {subject.path.name}, seed {case}", tally)
            watching[0] = False
            subject.path.write_bytes(good[subject.path])
    return tally


def _one(subject: Subject, label: str, tally: Tally) -> None:
    def stop(_signal: int, _frame: object) -> None:
        raise TooLong

    before, start = signal.signal(signal.SIGALRM, stop), time.perf_counter()
    signal.alarm(LONGEST)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            subject.read(subject.path)
        tally.outcomes[subject.kind, "read"] += 1
    except InputError as refused:
        text = str(refused)
        if "Traceback" in text or not text.strip() or len(text) > TEXT_LIMIT:
            tally.faults.append(f"{label}: message of {len(text)} characters: {text[:200]}")
        tally.outcomes[subject.kind, "refused"] += 1
    except TooLong:
        tally.faults.append(f"{label}: more than {LONGEST} s")
    except Executed as event:
        tally.faults.append(f"{label}: executed {event}")
    except Exception as fault:
        tally.faults.append(f"{label}: {type(fault).__name__}: {str(fault)[:200]}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        tally.slowest = max(tally.slowest, time.perf_counter() - start)


def command_line(cases: int, seed: int = 0) -> list[str]:
    """Faults of so many mutated files given to the command line in processes of their own."""
    faults = []
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        write_subjects(folder)
        study = str(folder / "study")
        calls: dict[str, list[str]] = {
            "clinical.csv": ["split", str(folder / "clinical.csv"), "-o", str(folder / "split.csv")],
            "net.pt": ["convert", str(folder / "net.pt"), str(folder / "out.safetensors")],
            "latents/_latents.json": ["latents", "info", str(folder / "latents")],
            "study/metrics.json": ["report", study],
            "study/study.json": ["report", study],
            "study/model/card.json": [
                *("predict", "--model", f"{study}/model", "--latents", str(folder / "latents")),
                *("-o", str(folder / "risks.csv")),
            ],
        }
        for case in range(seed, seed + cases):
            rng = random.Random(case)
            name = sorted(calls)[case % len(calls)]
            path = folder / name
            good = path.read_bytes()
            mutate = (
                mutated_table
                if name.endswith(".csv")
                else mutated_json
                if name.endswith(".json")
                else mutated
            )
            path.write_bytes(mutate(good, rng))
            for made in ("split.csv", "out.safetensors", "risks.csv"):
                (folder / made).unlink(missing_ok=True)
            words = [sys.executable, "-m", "stylegan_surv", *calls[name]]
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ})
                if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
                    faults.append(f"{name}, seed {case}: exit {done.returncode}: {done.stderr[-300:]}")
            except subprocess.TimeoutExpired:
                faults.append(f"{name}, seed {case}: more than 60 s")
            path.write_bytes(good)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--command-line", type=int, default=30, dest="through")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    start = time.perf_counter()
    tally = run(options.cases, options.seed)
    faults = [*tally.faults, *command_line(options.through, options.seed)]
    seconds = time.perf_counter() - start
    counts = {f"{kind} {how}": n for (kind, how), n in sorted(tally.outcomes.items())}
    record = {
        "cases": options.cases,
        "command_line": options.through,
        "seed": options.seed,
        "outcomes": counts,
    }
    record |= {"slowest_s": round(tally.slowest, 2), "seconds": round(seconds, 1), "faults": faults}
    if options.json:
        print(json.dumps(record))
        return
    for name, value in record.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
