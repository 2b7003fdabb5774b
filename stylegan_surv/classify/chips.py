"""Chips without background: face or head cut out, before one fill, at one resolution, through one JPEG.

Every photograph of both classes goes the same way, so that what is left of its camera is what no common chain can take
away: re-encoding does not erase the history of a JPEG.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from stylegan_surv._files import write_arrays, write_json
from stylegan_surv._images import to_images, to_pixels
from stylegan_surv._types import Bools, Floats, Pixels, Progress
from stylegan_surv.classify import inputs
from stylegan_surv.classify.people import People
from stylegan_surv.errors import InputError
from stylegan_surv.faces.dlib.recognition_chip import MEAN_FACE, SIDE, Placement, cut, placement
from stylegan_surv.faces.load import load_image
from stylegan_surv.faces.masks.colour import to_lab
from stylegan_surv.faces.masks.regions import Region, RegionKind, find_regions
from stylegan_surv.faces.mesh.find import MeshFace, find_faces

SETTINGS = "_settings.json"
LONGEST = 1024  # side to which larger photographs are reduced before the face is looked for, pixels
LEAST_SCORE = 0.5  # of the mesh, below which there is no face
LEAST_MASK = 0.5  # quality of the mask below which a photograph fails
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
LIT = (0.5, 0.18)  # mean and SD of the face's luma after normalisation of the light
MESH_NAMES = {"left_mouth_corner": "mouth_left", "right_mouth_corner": "mouth_right"}
Mask = Literal["head", "face"]
MASKS: tuple[Mask, ...] = ("head", "face")


@dataclass(frozen=True)
class ChipSettings:
    """The common chain.

    Attributes
    ----------
    mask : {"head", "face"}
        What is kept: head with hair, or the hull of the face.
    fill : int
        Level of all three channels behind it, 0 … 255.
    detail : int
        Side that every chip is reduced to, pixels; no photograph keeps more detail than another.
    quality : int
        Of the one JPEG compression, 1 … 95.
    even_light : bool
        Give every face the same mean and contrast of luma. It takes pallor away as well as exposure.
    """

    mask: Mask = "head"
    fill: int = 128
    detail: int = 96
    quality: int = 80
    even_light: bool = False

    def __post_init__(self) -> None:
        if self.mask not in MASKS or not 0 <= self.fill <= 255 or not 16 <= self.detail <= SIDE:
            raise InputError(
                f"mask {self.mask!r}, fill {self.fill}, detail {self.detail}; expected a mask of {', '.join(MASKS)}, "
                f"a level of 0 … 255 and 16 … {SIDE} pixels."
            )
        if not 1 <= self.quality <= 95:
            raise InputError(f"the JPEG quality is {self.quality}; expected 1 … 95.")


@dataclass(frozen=True, eq=False)
class FaceChip:
    """One photograph, ready for every arm.

    Attributes
    ----------
    chip : array of uint8, shape (150, 150, 3)
        As the face recogniser frames it, without background.
    points : array of float, shape (468, 2)
        The mesh in pixels of the chip.
    cover : array of float, shape (150, 150)
        What was kept of every pixel, 0 … 1.
    inputs : dict of str to array
        By the names of :mod:`stylegan_surv.classify.inputs`.
    quality : float
        Of the mask, 0 … 1.
    tone : float
        Individual typology angle of the skin, degrees; NaN where no skin was seen.
    sha256 : str
        Of the file.
    error : str or None
        Why there is no chip; every array is then empty.
    """

    chip: Pixels
    points: Floats
    cover: Floats
    inputs: dict[str, Floats]
    quality: float
    tone: float
    sha256: str
    error: str | None = None


def make_chip(path: Path, settings: ChipSettings) -> FaceChip:
    """Cut the chip of one photograph; one that fails says why in ``error``."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        picture = load_image(path)
    except InputError as fault:
        return _failed(digest, str(fault))
    width, height = picture.size
    if max(picture.size) > LONGEST:
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS, reducing_gap=None)
    pixels = np.asarray(picture)
    images = torch.from_numpy(pixels.copy()).movedim(2, 0).float() / 255
    faces = find_faces(images)
    if not faces or faces[0].score < LEAST_SCORE:
        return _failed(digest, "no face was found")
    regions = find_regions(images, faces[0].points)
    kept = regions[settings.mask]
    if kept.quality < LEAST_MASK:
        return _failed(
            digest, f"the {settings.mask} cannot be cut out (quality {kept.quality:.2f})", kept.quality
        )
    place = _place(faces[0])
    chip, cover = _cut_out(pixels, regions, place, settings)
    rgb = pixels / 255.0
    wall = regions["background"].weight * (1 - regions["face"].weight)
    points = faces[0].points
    found = {
        "background": inputs.background_inputs(rgb, wall),
        "file": inputs.file_inputs(path, width, height),
        "resolution": inputs.resolution_inputs(width, height),
        "framing": inputs.framing_inputs(points, *picture.size),
        "residue": inputs.residue_inputs(rgb, wall),
        **inputs.both_inputs(rgb, regions["head"].weight, chip),
    }
    tone = _typology(rgb, regions["skin"].weight)
    return FaceChip(chip, place.to_chip(points.xy), cover, found, kept.quality, tone, digest)


def _failed(digest: str, error: str, quality: float = 0.0) -> FaceChip:
    empty = np.zeros(0)
    return FaceChip(np.zeros(0, np.uint8), empty, empty, {}, quality, float("nan"), digest, error)


def _place(face: MeshFace) -> Placement:
    names = {name: face.points[MESH_NAMES.get(name, name)] for name in MEAN_FACE}
    return placement(names)


def _cut_out(
    pixels: Pixels, regions: dict[RegionKind, Region], place: Placement, settings: ChipSettings
) -> tuple[Pixels, Floats]:
    """The chip after the common chain, and what was kept of each of its pixels."""
    weight = torch.from_numpy(regions[settings.mask].weight).float()[None, None].expand(1, 3, -1, -1)
    images = to_images(_lit(pixels, regions["face"].weight) if settings.even_light else pixels)[None]
    fill = settings.fill / 127.5 - 1
    parts = [
        cut(layer - 1, place) + 1 for layer in ((images - fill) * weight, weight)
    ]  # 0 beyond the picture
    cover = parts[1][0, 0].clamp(0, 1)
    chip = Image.fromarray(to_pixels(parts[0] + fill)[0])
    small = chip.resize((settings.detail, settings.detail), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=settings.quality, subsampling=0)
    decoded = Image.open(buffer, formats=["JPEG"]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(decoded.convert("RGB")), np.asarray(cover.numpy(), float)


def _lit(pixels: Pixels, face: Floats) -> Pixels:
    """Pixels whose luma has the same mean and spread over the face as everybody's."""
    rgb = pixels / 255.0
    luma = rgb @ LUMA
    mean = float((luma * face).sum() / max(face.sum(), 1e-9))
    spread = float(np.sqrt(((luma - mean) ** 2 * face).sum() / max(face.sum(), 1e-9)))
    evened = (rgb - mean) * (LIT[1] / max(spread, 1e-2)) + LIT[0]
    return np.asarray(np.clip(np.round(evened * 255), 0, 255), np.uint8)


def _typology(rgb: Floats, skin: Floats) -> float:
    """Individual typology angle, arctan((L* − 50)/b*) in degrees (Chardon, Cretois & Hourseau 1991)."""
    sample = skin > 0.5
    if sample.sum() < 16:
        return float("nan")
    lightness, _, yellow = np.median(to_lab(rgb[sample]), axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))


@dataclass(frozen=True, eq=False)
class ChipSet:
    """The chips of a study, in the order of its people.

    Attributes
    ----------
    people : People
        Those whose photograph gave a chip and whose set still holds a case and a control.
    chips : tuple of FaceChip
        Theirs.
    failed : dict of str to str
        Photograph that gave none → why.
    quality : dict of str to float
        Mean quality of the masks by class.
    failures : dict of str to (int, int)
        By class: photographs that failed, and all.
    fill : int
        Level behind the faces, 0 … 255.
    """

    people: People
    chips: tuple[FaceChip, ...]
    failed: dict[str, str]
    quality: dict[str, float]
    failures: dict[str, tuple[int, int]]
    fill: int

    def pixels(self) -> Pixels:
        """The chips, shape (n, 150, 150, 3)."""
        return np.stack([chip.chip for chip in self.chips])

    def points(self) -> Floats:
        """The meshes in pixels of the chips, shape (n, 468, 2)."""
        return np.stack([chip.points for chip in self.chips])

    def cover(self) -> Floats:
        """What was kept of every pixel, shape (n, 150, 150)."""
        return np.stack([chip.cover for chip in self.chips])

    def input(self, name: str) -> Floats:
        """One of the inputs beside the face, shape (n, p)."""
        return np.stack([chip.inputs[name] for chip in self.chips])

    def tone(self) -> Floats:
        """Individual typology angles, degrees, shape (n,)."""
        return np.array([chip.tone for chip in self.chips])


def make_chips(
    people: People,
    folder: str | Path,
    settings: ChipSettings | None = None,
    progress: Progress | None = None,
) -> ChipSet:
    """Cut the chips of all people; a run that was killed goes on where it was.

    Parameters
    ----------
    people : People
        Matched: with the column ``set``.
    folder : str or Path
        Where chips are kept, one file per photograph.
    settings : ChipSettings, optional
    progress : callable, optional
        Called with (done, total).

    Raises
    ------
    InputError
        If the folder holds chips of other settings, all photographs of one class fail, or one photograph (by its
        content) stands in both groups.
    """
    settings, folder = settings or ChipSettings(), Path(folder)
    _claim(folder, settings)
    made = []
    for k, (photo_id, path) in enumerate(zip(people.table["photo_id"], people.table["path"])):
        if path is None:
            raise InputError(f"{people.source} was read without a folder of photographs; give it.")
        made.append(_kept(folder / f"{photo_id}.safetensors", Path(path), settings))
        if progress:
            progress(k + 1, len(people))
    _refuse_shared(people, made)
    return _gather(people, made, settings.fill)


def _claim(folder: Path, settings: ChipSettings) -> None:
    """Write the settings into a new folder, or compare them with those of an old one."""
    folder.mkdir(parents=True, exist_ok=True)
    path, given = folder / SETTINGS, asdict(settings)
    if not path.exists():
        write_json(path, given)
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != given:
        raise InputError(
            f"{folder} holds chips that were cut with {found}; expected {given}. Choose another folder."
        )


def _kept(store: Path, photo: Path, settings: ChipSettings) -> FaceChip:
    """The chip from its file if that is of this photograph, else made and written."""
    if store.exists():
        found = _read(store)
        if found.sha256 == hashlib.sha256(photo.read_bytes()).hexdigest():
            return found
    made = make_chip(photo, settings)
    arrays = {
        "chip": made.chip,
        "points": made.points.astype(np.float32),
        "cover": made.cover.astype(np.float16),
    }
    arrays |= {f"input.{name}": values.astype(np.float64) for name, values in made.inputs.items()}
    about = {"quality": made.quality, "tone": made.tone, "sha256": made.sha256, "error": made.error}
    write_arrays(store, {k: np.ascontiguousarray(v) for k, v in arrays.items()}, {"about": json.dumps(about)})
    return _read(store)


def _read(store: Path) -> FaceChip:
    with safe_open(store, "np") as file:
        about = json.loads(file.metadata()["about"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found = {name.removeprefix("input."): a for name, a in arrays.items() if name.startswith("input.")}
    return FaceChip(
        arrays["chip"], arrays["points"].astype(float), arrays["cover"].astype(float), found, **about
    )


def _refuse_shared(people: People, made: Sequence[FaceChip]) -> None:
    """One file in both groups, under whatever names."""
    first: dict[str, int] = {}
    for k, chip in enumerate(made):
        other = first.setdefault(chip.sha256, k)
        if people.case[other] != people.case[k]:
            names = [people.table["photo"].iloc[i] for i in (other, k)]
            raise InputError(
                f"{names[0]} and {names[1]} are one photograph, which is a case's and a control's at once; "
                "remove it from one of the groups."
            )


def _gather(people: People, made: Sequence[FaceChip], fill: int) -> ChipSet:
    good = np.array([chip.error is None for chip in made])
    failed = {str(n): str(c.error) for n, c in zip(people.table["photo"], made) if c.error is not None}
    classes = {"case": people.case, "control": ~people.case}
    failures = {name: (int((of & ~good).sum()), int(of.sum())) for name, of in classes.items()}
    for name, of in classes.items():
        if not (of & good).any():
            first = next(iter(failed.items()))
            raise InputError(
                f"No photograph of a {name} gave a chip ({failures[name][0]} of {failures[name][1]} failed, such as "
                f"{first[0]}: {first[1]}); the classes cannot be compared."
            )
    quality = {
        name: float(np.mean([c.quality for c, k in zip(made, of & good) if k]))
        for name, of in classes.items()
    }
    keep = good & _complete(people, good)
    if not keep.any():
        raise InputError("No matched set has a case and a control whose photographs gave chips.")
    chips = tuple(replace(chip) for chip, k in zip(made, keep) if k)
    return ChipSet(people.rows(keep), chips, failed, quality, failures, fill)


def _complete(people: People, good: Bools) -> Bools:
    """Whose set still has a case and a control."""
    table = people.table.assign(good_case=good & people.case, good_control=good & ~people.case)
    sets = table.groupby("set")
    whole = sets["good_case"].transform("any") & sets["good_control"].transform("any")
    return np.asarray(whole, bool)
