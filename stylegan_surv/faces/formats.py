"""What a file is, by its content: pictures that are opened, and others that are named and left closed.

A picture library decodes far more than photographs, and some of it by running other programs (an EPS file is a
program). So the decoder is chosen here, and the library gets no choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD, FOOT = 1024, 26  # bytes that are looked at; Truevision's signature stands at the end
SUFFIXES = (  # what photographs are called; the content decides
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif", ".avif",
    ".bmp", ".dib", ".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
RAW_SUFFIXES = (".dng", ".nef", ".arw", ".cr2", ".cr3", ".orf", ".rw2", ".raf", ".pef", ".srw")
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

MAGIC = (  # first bytes, and Pillow's names of the decoders that may open the file
    (b"\xff\xd8\xff", ("JPEG", "MPO")),
    (b"\x89PNG\r\n\x1a\n", ("PNG",)),
    (b"II*\x00", ("TIFF",)),
    (b"MM\x00*", ("TIFF",)),
    (b"II+\x00", ("TIFF",)),
    (b"MM\x00+", ("TIFF",)),
    (b"BM", ("BMP",)),
    (b"GIF87a", ("GIF",)),
    (b"GIF89a", ("GIF",)),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", ("JPEG2000",)),
    (b"\xff\x4f\xff\x51", ("JPEG2000",)),
)
FOREIGN = (  # first bytes, and what the file is
    (b"%!PS", "an EPS or PostScript program"),
    (b"\xc5\xd0\xd3\xc6", "an EPS or PostScript program"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"FUJIFILMCCD-RAW", "a camera raw file"),
    (b"IIRO", "a camera raw file"),
    (b"IIRS", "a camera raw file"),
    (b"IIU\x00", "a camera raw file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the picture itself"),
)


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes
    ----------
    decoders : tuple of str
        Pillow's names of the decoders that may open it; empty for what is no photograph.
    foreign : str
        What it is instead, in words; empty where it is not known.
    """

    decoders: tuple[str, ...] = ()
    foreign: str = ""


def recognise(path: Path) -> Kind:
    """What a file is by its first bytes.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return recognise_stream(file, path.suffix.lower())


def recognise_stream(file: BinaryIO, suffix: str = "") -> Kind:
    """What an open file is; `suffix` (".tga") helps where the content leaves it open. The file is left at its start."""
    head = file.read(HEAD)
    size = file.seek(0, 2)
    file.seek(max(size - FOOT, 0))
    foot = file.read(FOOT)
    file.seek(0)
    return _by_content(head, foot, suffix)


def _by_content(head: bytes, foot: bytes, suffix: str) -> Kind:
    if head[128:132] == b"DICM":
        return Kind(foreign="a DICOM image")
    if head[:4] == b"\x01\x00\x00\x00" and head[40:44] == b" EMF":
        return Kind(foreign="a Windows metafile (EMF)")
    if suffix in RAW_SUFFIXES or (head[:4] in (b"II*\x00", b"MM\x00*") and head[8:10] == b"CR"):
        return Kind(foreign="a camera raw file")
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[:4] == b"RIFF":
        return Kind(("WEBP",)) if head[8:12] == b"WEBP" else Kind(foreign="a RIFF file (a film or a sound)")
    for magic, decoders in MAGIC:
        if head.startswith(magic):
            return Kind(decoders)
    for magic, foreign in FOREIGN:
        if head.startswith(magic):
            return Kind(foreign=foreign)
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return Kind(("PPM",))
    if foot.startswith(b"TRUEVISION-XFILE", FOOT - 18) or (suffix == ".tga" and len(head) > 18):
        return Kind(("TGA",))
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start.startswith(b"<"):
        return Kind(foreign="an SVG drawing" if b"<svg" in start else "a web page or XML")
    return Kind()


def _by_brand(head: bytes) -> Kind:
    """Kind of an ISO media file (HEIC, AVIF, films), from its brand and those that it is compatible with."""
    brand, others = head[8:12], head[16 : int.from_bytes(head[:4], "big")]
    if brand in AVIF_BRANDS or (brand in HEIF_BRANDS and any(name in others for name in AVIF_BRANDS)):
        return Kind(("AVIF",))
    if brand in HEIF_BRANDS:
        return Kind(("HEIF",))
    return Kind(foreign="a camera raw file" if brand == b"crx " else "a film")
