"""What people have that is no StyleGAN2 checkpoint of a layout read here: told by content, with what to do about it.

Nothing here decides whether a file is safe; it only puts the reason for a refusal into words.
"""

from __future__ import annotations

import mmap
import re
import zipfile
from pathlib import Path

from stylegan_surv.gan.formats.stored import ZIP

START = 512  # bytes by which a file is told
# how a file begins → what it is and what to do
SIGNATURES = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned",
    ),
    (b"\x1f\x8b", "gzip-compressed: unpack it first"),
    (b"BZh", "bzip2-compressed: unpack it first"),
    (b"\xfd7zXZ", "xz-compressed: unpack it first"),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras, TensorFlow), which is not read here: export the weights from PyTorch"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x93NUMPY", "a numpy array, not a network"),
)
# what a pickle or archive names → what the network is
ARCHITECTURES = (
    (
        b"SynthesisInput",
        "a StyleGAN3 generator; expected StyleGAN2: fine-tune or convert a StyleGAN2 network",
    ),
    (
        b"networks_stylegan3",
        "a StyleGAN3 network; expected StyleGAN2: fine-tune or convert a StyleGAN2 network",
    ),
    (
        b"dnnlib.tflib",
        "a TensorFlow network; convert it to the PyTorch layout with the tools of its repository first",
    ),
)
# modules of Python whose mention in a pickle is an attack rather than a network's class
DANGEROUS = re.compile(
    r"(builtins|__builtin__|os|posix|nt|sys|subprocess|shutil|socket|runpy|code|importlib|ctypes|pickle|pty|types"
    r"|functools|operator|io|pathlib|webbrowser|asyncio|multiprocessing|commands|platform|numpy\.testing.*)$"
)
WHOLE_MODULE = (
    "a whole module that torch.save(net) wrote, which only its own program can open. In that "
    "program give torch.save(net.state_dict(), 'weights.pt'), and load that file"
)


def what_it_is(path: Path) -> str | None:
    """What a file is that cannot be read as a network, and what to do; None where nothing is known of it.

    >>> _ = (page := Path(getfixture("tmp_path")) / "ffhq.pkl").write_text("<!DOCTYPE html><title>Sign in")
    >>> what_it_is(page)
    'a web page, not the file: open its address in a browser, and download the file itself'
    """
    if not path.stat().st_size:
        return "empty: download it again"
    with open(path, "rb") as file:
        start = file.read(START)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "a web page, not the file: open its address in a browser, and download the file itself"
    if found := next((what for mark, what in SIGNATURES if start.startswith(mark)), None):
        return found
    if start.startswith(ZIP):
        return _archive(path)
    return _named(path)


def _archive(path: Path) -> str | None:
    try:
        names = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return f"cut off or damaged: {path.stat().st_size:,} bytes are there; download or copy it again"
    if any(re.search(r"(^|/)(code/|constants\.pkl$)", name) for name in names):
        return (
            "a TorchScript program (torch.jit.save): code and weights in one, which is not run here. In the program "
            "that made it save the network's state_dict(), and load that file"
        )
    if not any(name.endswith("data.pkl") for name in names):
        return f"a zip archive of {', '.join(names[:3]) or 'nothing'}, no PyTorch archive: unpack it first"
    return _named(path)


def _named(path: Path) -> str | None:
    """The architecture that a pickle's source text or names give away."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return next((what for mark, what in ARCHITECTURES if content.find(mark) >= 0), None)


def asks_for(name: str) -> str:
    """In words, that a file names something of a program, as an attack or a pickled module does."""
    module = name.rpartition(".")[0]
    if not module or DANGEROUS.match(module):
        return f"it asks for {name[:80]!r}, which no network needs"
    return f"it asks for {name[:80]!r}: it is {WHOLE_MODULE}"
