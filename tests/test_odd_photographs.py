"""One odd file is one failed row, whatever is odd about it, and all the others keep their names and faces."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_face import draw_face
from odd_photographs import BEFORE_SCRIPT, SIDE, bystanders, false_photographs, good_photographs
from PIL import Image

import stylegan_surv
from stylegan_surv._files import as_text, from_text
from stylegan_surv.errors import InputError
from stylegan_surv.faces import Chips, align, load_image
from stylegan_surv.faces.folder import list_photographs

ALIGN = sys.modules[align.__module__]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world") / "photos"
    root.mkdir()
    return root


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[dict[str, Image.Image], dict[str, str], dict[str, int]]:
    return good_photographs(folder), false_photographs(folder), bystanders(folder)


@pytest.fixture(scope="module")
def chips(folder: Path, made: object) -> Chips:
    return align(folder, folder.parent / "chips", size=64, workers=1)


def test_every_good_photograph_is_aligned_and_every_other_one_says_why(
    chips: Chips, made: tuple[dict[str, Image.Image], dict[str, str], dict[str, int]]
) -> None:
    good, false, ignored = made
    assert len(good) + len(false) + sum(ignored.values()) > 50
    rows = chips.table.set_index("source_name")
    assert set(rows.index) == good.keys() | false.keys()
    assert {name for name in good if rows.at[name, "status"] != "ok"} == set()
    for name, what in false.items():
        assert what in rows.at[name, "error"], name
    assert chips.ignored == ignored
    # the same face in every format, under every name
    faces = [chips.load(photo_id).astype(float) for photo_id in chips.ok["photo_id"]]
    assert max(np.abs(face - faces[0]).mean() for face in faces) < 8


def test_the_manifest_says_which_file_it_was(folder: Path, chips: Chips) -> None:
    row = chips.table.set_index("source_name").loc["M<fc>ller.jpg"]
    assert from_text(row["source_path"]) == os.fsdecode(os.fsencode(folder) + b"/M\xfcller.jpg")
    assert row["photo_id"] == "M_fc_ller"
    again = align(folder, chips.folder, size=64, workers=1)
    assert again.table["photo_id"].tolist() == chips.table["photo_id"].tolist()


def test_names_of_bytes_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        raw = bytes(rng.integers(1, 256, rng.integers(1, 12), dtype=np.uint8)).replace(b"/", b"<fc>")
        name = os.fsdecode(raw)
        as_text(name).encode()
        assert from_text(as_text(name)) == name


def test_nothing_is_run_that_a_photograph_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands an EPS file to Ghostscript; here it is not even opened, whatever it is called."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("a.jpg", "a.png", "a.eps", "a"):
        (tmp_path / name).write_text(BEFORE_SCRIPT)
        with pytest.raises(InputError, match="is an EPS or PostScript program, which is not opened"):
            load_image(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_every_picture_is_opened_by_a_named_decoder() -> None:
    root = Path(stylegan_surv.__file__).parent
    files = [*root.rglob("*.py"), *(root.parent / "benchmarks").glob("*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
                assert "formats" in {word.arg for word in node.keywords}, f"{file}: {ast.unparse(node)}"


def test_a_folder_of_clutter_alone_says_what_is_in_it(tmp_path: Path) -> None:
    bystanders(tmp_path)
    with pytest.raises(InputError, match=r"holds no photographs \(6 files ignored: 2 \.txt, .*a DICOM image"):
        list_photographs(tmp_path)


# ---- what cannot be read, and what cannot be written -----------------------------------------------------


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ENOMEM, errno.ESTALE])
def test_a_photograph_that_cannot_be_read_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for name in ("a.png", "locked.png", "z.png"):
        draw_face(SIDE).save(tmp_path / name)
    whole = Path.open

    def refuse(path: Path, *how: object, **options: object) -> object:
        if path.name == "locked.png":
            raise OSError(code, os.strerror(code), str(path))
        return whole(path, *how, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert chips.table["status"].tolist() == ["ok", "failed", "ok"]
    assert chips.failed["error"].item() == f"locked.png cannot be read: {os.strerror(code)}."


def test_a_full_disk_is_one_message_and_the_work_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        draw_face(SIDE).save(tmp_path / name)
    save = Image.Image.save
    written: list[object] = []

    def fill(image: Image.Image, file: object, *how: object, **options: object) -> None:
        written.append(file)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(image, file, *how, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fill)
        with pytest.raises(
            InputError, match=r"No space left on device.*make room, then give the same command"
        ):
            align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert (tmp_path / "chips" / "a.png").is_file()
    assert (tmp_path / "chips" / "_journal.jsonl").read_text().count('"ok"') == 1
    chips = align(tmp_path, tmp_path / "chips", size=64, workers=1)
    assert len(chips.ok) == 3


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
from stylegan_surv.cli import main
sys.argv = ["stylegan-surv", *{words!r}]
main()
"""


@pytest.mark.parametrize(("size", "before_work"), [(0, True), (6000, False)])
def test_files_that_may_not_grow_end_the_run_with_one_message(
    tmp_path: Path, size: int, before_work: bool
) -> None:
    """A real limit of the system: at once where nothing can be written, later where a chip is too large."""
    draw_face(SIDE).save(tmp_path / "a.png")
    words = ["align", str(tmp_path), "-o", str(tmp_path / "chips"), "--workers", "1"]
    code = LIMITED.format(bytes=size, words=words)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert (tmp_path / "chips").exists() is not before_work


def test_an_output_that_cannot_be_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_face(SIDE).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    read: list[Path] = []
    monkeypatch.setattr(ALIGN, "load_image", read.append)
    for out, said in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "chips", "is a file")):
        with pytest.raises(InputError, match=said):
            align(tmp_path, out, size=64, workers=1)
    for sheet, said in (
        (tmp_path / "sheet.gif", r"expected a file that ends in \.png"),
        (tmp_path / "file" / "sheet.png", "is a file"),
        (tmp_path, "expected a file that ends in"),
    ):
        with pytest.raises(InputError, match=said):
            align(tmp_path, tmp_path / "chips", size=64, workers=1, sheet=sheet)
    assert read == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read and write everything")
def test_permissions(tmp_path: Path) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    out.mkdir(mode=0o500)
    draw_face(SIDE).save(source / "a.png")
    draw_face(SIDE).save(source / "b.png")
    (source / "b.png").chmod(0)
    with pytest.raises(InputError, match="nothing can be written"):
        align(source, out, size=64, workers=1)
    chips = align(source, tmp_path / "chips", size=64, workers=1)
    assert chips.failed["error"].item() == "b.png cannot be read: Permission denied."


def test_a_damaged_journal_or_manifest_ends_no_run_and_removes_no_file(tmp_path: Path) -> None:
    draw_face(SIDE).save(tmp_path / "a.png")
    out = tmp_path / "chips"
    align(tmp_path, out, size=64, workers=1)
    outside = tmp_path / "precious.png"
    shutil.copy(tmp_path / "a.png", outside)
    row = {
        name: None for name in ("photo_id", "source_name", "source_path", "source_sha256", "status", "error")
    }
    lines = [
        json.dumps({**row, "photo_id": "../precious", "source_name": "x", "status": "ok"}),
        json.dumps({**row, "photo_id": "b", "source_name": 3, "status": "ok"}),
        json.dumps({**row, "photo_id": "b", "source_name": "x", "status": []}),
        "[" * 100_000,
        "[]",
        "null",
        '{"photo_id": "b"}',
        "\ufffd\0",
    ]
    (out / "_journal.jsonl").write_bytes("\n".join(lines).encode() + b"\xff")
    chips = align([tmp_path / "a.png"], out, size=64, workers=1, prune=True)
    assert chips.table["photo_id"].tolist() == ["a"]
    assert outside.exists()
    table = Chips.open(out).table
    table.assign(photo_id="../precious").to_parquet(out / "_chips.parquet")
    with pytest.raises(InputError, match=r"names a chip '\.\./precious'"):
        align([tmp_path / "a.png"], out, size=64, workers=1, prune=True)
    table[["photo_id"]].to_parquet(out / "_chips.parquet")
    with pytest.raises(InputError, match="has no column source_name"):
        align([tmp_path / "a.png"], out, size=64, workers=1)
    assert outside.exists()
