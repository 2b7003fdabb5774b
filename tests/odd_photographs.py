"""A folder such as the world makes them: good photographs under odd names, and what only pretends to be one."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from drawn_face import draw_face, draw_landscape
from PIL import Image

SIDE = 160
BEFORE_SCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(written) (w) file closefile\nshowpage\n"


def tiff_exif(*tags: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data with these tags: number, type, count, and the four bytes of the value or, longer, the value."""
    entries, beyond = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for number, kind, count, value in tags:
        if len(value) > 4:
            entries += struct.pack("<HHII", number, kind, count, start + len(beyond))
            beyond += value
        else:
            entries += struct.pack("<HHI", number, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + beyond


ORIENTATION_6 = (0x0112, 3, 1, struct.pack("<H", 6))
BY_ZERO = (0x011A, 10, 1, struct.pack("<ii", -1, 0))  # a resolution of −1/0


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    empty = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + empty


def tiff_of_16_bits(image: Image.Image) -> bytes:
    """RGB with 16 bits a channel, uncompressed, little-endian."""
    values = (np.asarray(image).astype("<u2") * 257).tobytes()
    width, height = image.size
    short, long = 3, 4
    tags = [
        (256, short, 1, width), (257, short, 1, height), (258, short, 3, 8 + 2 + 10 * 12 + 4), (259, short, 1, 1),
        (262, short, 1, 2), (273, long, 1, 8 + 2 + 10 * 12 + 4 + 6), (277, short, 1, 3), (278, short, 1, height),
        (279, long, 1, len(values)), (284, short, 1, 1),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(tags))
        + entries
        + bytes(4)
        + struct.pack("<3H", 16, 16, 16)
        + values
    )


def good_photographs(folder: Path) -> dict[str, Image.Image]:
    """Write faces under odd names and in odd formats; name as it should stand in the manifest → the face."""
    face = draw_face(SIDE)
    made: dict[str, Image.Image] = {}

    def save(name: str, kind: str, on_disk: str | bytes | None = None, **options: object) -> None:
        path = os.path.join(os.fsencode(folder), os.fsencode(name if on_disk is None else on_disk))
        options.setdefault("quality", 92)
        with open(path, "wb") as file:
            face.save(file, kind, **options)
        made[name] = face

    save("plain.jpg", "JPEG")
    save("M<fc>ller.jpg", "JPEG", b"M\xfcller.jpg")  # Latin-1, as an old archive unpacks it
    save("字" * 83 + ".png", "PNG")
    save("é.png", "PNG", unicodedata.normalize("NFD", "é.png"))
    save("a 'b' \"c\";$(d).png", "PNG")
    save("-o.png", "PNG")
    save("=1+1.png", "PNG")
    save("new\nline.png", "PNG")
    save("x.JPG", "JPEG")
    save("x.jfif", "JPEG")
    save("x.jpe", "JPEG")
    save("x.png.jpg", "PNG")  # called otherwise than it is
    save("no extension", "JPEG")
    save("x.dat", "PNG")
    save("x.tga", "TGA")
    save("x.ppm", "PPM")
    save("x.j2k", "JPEG2000", no_jp2=True)
    save("x.webp", "WEBP")
    save("x.avif", "AVIF")
    save("x.mpo", "MPO", save_all=True, append_images=[draw_landscape()])
    save("frames.gif", "GIF", save_all=True, append_images=[draw_landscape()])
    save("by zero.jpg", "JPEG", exif=tiff_exif(BY_ZERO))
    save("damaged exif.jpg", "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    (folder / "sixteen.tif").write_bytes(tiff_of_16_bits(face))
    made["sixteen.tif"] = face
    face.transpose(Image.Transpose.ROTATE_90).save(
        folder / "turned by zero.jpg", exif=tiff_exif(ORIENTATION_6, BY_ZERO), quality=92
    )
    made["turned by zero.jpg"] = face
    (folder / "other" / "ward").mkdir(parents=True)
    face.save(folder / "other" / "ward" / "far.png")
    (folder / "ward").symlink_to(folder / "other" / "ward", target_is_directory=True)
    made["other/ward/far.png"] = face
    return made


FALSE = {  # name → content, and what the row says
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"not a picture", "not a picture that can be read"),
    "bomb.png": (png_header(30_000, 30_000), "decompression bomb"),
    "script.jpg": (BEFORE_SCRIPT.encode(), "EPS or PostScript"),
    "binary script.jpg": (b"\xc5\xd0\xd3\xc6" + BEFORE_SCRIPT.encode(), "EPS or PostScript"),
    "document.png": (b"%PDF-1.7\n", "a PDF document"),
    "drawing.png": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "an SVG drawing"),
    "page.jpg": (b"<!doctype html><html></html>", "a web page"),
    "meta.bmp": (b"\xd7\xcd\xc6\x9a" + bytes(80), "Windows metafile"),
    "stars.tif": (b"SIMPLE  =                    T" + bytes(80), "a FITS image"),
    "scan.jpg": (bytes(128) + b"DICM" + bytes(80), "a DICOM image"),
    "layers.png": (b"8BPS\0\1" + bytes(80), "a Photoshop document"),
    "icon.png": (b"\0\0\1\0\1\0" + bytes(80), "an icon"),
    "packed.jpg": (b"\x1f\x8b\x08" + bytes(80), "compressed by gzip"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "film.heic": (b"\0\0\0\x18ftypmp42" + bytes(80), "a film"),
    "sound.webp": (b"RIFF\0\0\0\0WAVE" + bytes(80), "a RIFF file"),
    "broken.avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(200), "not a picture that can be read"),
}


def false_photographs(folder: Path) -> dict[str, str]:
    """Write what is called a photograph and is none; name → what its row must say."""
    said = {name: what for name, (_, what) in FALSE.items()}
    for name, (content, _) in FALSE.items():
        (folder / name).write_bytes(content)
    draw_landscape().save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])
    (folder / "gone.png").symlink_to(folder / "nowhere")
    return {
        **said,
        "whole.jpg": "no face found",
        "cut.jpg": "truncated or damaged",
        "gone.png": "does not exist",
    }


def bystanders(folder: Path) -> dict[str, int]:
    """Write files that are no photographs; what the listing says of them → how many."""
    face = draw_face(40)
    clutter: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("@eaDir/plain.jpg", lambda path: face.save(path)),
        ("._plain.jpg", lambda path: path.write_bytes(b"\0\5\x16\7")),
        (".hidden.png", lambda path: face.save(path)),
        ("__MACOSX/plain.jpg", lambda path: face.save(path)),
        ("Thumbs.db", lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0")),
        (".DS_Store", lambda path: path.write_bytes(b"\0\0\0\1Bud1")),
        ("notes.txt", lambda path: path.write_text("x")),
        ("more.txt", lambda path: path.write_text("x")),
        ("README", lambda path: path.write_text("x")),
        ("ct.dcm", lambda path: path.write_bytes(bytes(128) + b"DICM")),
        ("letter.pdf", lambda path: path.write_bytes(b"%PDF-1.7")),
        ("pipe.jpg", lambda path: os.mkfifo(path)),
    )
    for name, write in clutter:
        (folder / name).parent.mkdir(exist_ok=True)
        write(folder / name)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    return {
        ".txt": 2,
        "without extension": 1,
        ".dcm (a DICOM image)": 1,
        ".pdf (a PDF document)": 1,
        ".jpg that are no files": 1,
    }
