"""How good a dataset's latents are: a summary, a table by subgroup, and a contact sheet of what needs a look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from stylegan_surv._images import to_pixels
from stylegan_surv._types import Bools
from stylegan_surv.errors import InputError
from stylegan_surv.gan import Generator, load_generator
from stylegan_surv.inversion.dataset import iterate, read_metadata
from stylegan_surv.inversion.latents import Latents
from stylegan_surv.inversion.origin import check_network
from stylegan_surv.inversion.sources import Photographs, open_source

QUALITY = ("lpips", "mse", "identity", "distance")
SHOWN = 20  # failed photographs that a summary lists
# A photograph is marked for review beyond these. LPIPS and distance: where the generator plainly does not know the
# face; identity: dlib's own limit for "the same person", as a cosine (see identity.py).
REVIEW = {"lpips": 0.35, "distance": 2.0, "identity": 0.91}
MANY = 0.5  # a share of photographs to look at that helps nobody
CELL, CAPTION, COLUMNS = 128, 18, 4  # px, px and pairs of pictures in a row of a contact sheet


@dataclass(frozen=True)
class Summary:
    """What a dataset holds.

    Attributes
    ----------
    photos, patients : int
        How many have a latent.
    failed : dict of str to str
        ``photo_id → reason``.
    quality : dict of str to tuple of float
        Median and 95 % quantile (5 % for identity) of every quality that was graded.
    review : tuple of str
        Photographs beyond a threshold.
    """

    photos: int
    patients: int
    failed: dict[str, str]
    quality: dict[str, tuple[float, float]]
    review: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        medians = {name: median for name, (median, _) in self.quality.items()}
        tails = {f"{name}_tail": tail for name, (_, tail) in self.quality.items()}
        counts = {"photos": self.photos, "patients": self.patients}
        return {**counts, "failed": self.failed, "review": list(self.review), **medians, **tails}

    def __str__(self) -> str:
        lines = [f"{self.photos} photographs of {self.patients} patients, {len(self.failed)} failed"]
        if self.quality:
            parts = [f"{name} {median:.3f} ({tail:.3f})" for name, (median, tail) in self.quality.items()]
            lines.append("  median (95 %): " + ", ".join(parts))
        if len(self.review) > MANY * self.photos:
            lines.append(
                f"  {len(self.review)} are beyond a threshold: that is the way of embedding, not single photographs"
            )
        elif self.review:
            lines.append(
                f"  {len(self.review)} to look at: {', '.join(self.review[:5])}{' …' * (len(self.review) > 5)}"
            )
        lines += [f"  {name}: {reason}" for name, reason in list(self.failed.items())[:SHOWN]]
        if len(self.failed) > SHOWN:
            lines.append(f"  and {len(self.failed) - SHOWN} more")
        return "\n".join(lines)


def quality_frame(folder: str | Path) -> pd.DataFrame:
    """Identity, status and quality of every photograph, without its latent; sorted by ``photo_id``."""
    columns = ["photo_id", "patient_id", "status", "error", *QUALITY, "steps"]
    parts = [table.to_pandas() for table in iterate(folder, columns)]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return frame.drop_duplicates("photo_id").sort_values("photo_id").reset_index(drop=True)


def needs_review(frame: pd.DataFrame, limits: Mapping[str, float] = REVIEW) -> Bools:
    """Rows beyond a threshold."""
    mark = np.zeros(len(frame), dtype=bool)
    for name, limit in limits.items():
        values = frame[name].to_numpy(float)
        with np.errstate(invalid="ignore"):
            mark |= values < limit if name == "identity" else values > limit
    return mark


def summarise(folder: str | Path, limits: Mapping[str, float] = REVIEW) -> Summary:
    """Count, grade and list what is beyond the ``limits``; reads no latents: quick and small, whatever the size."""
    read_metadata(folder)
    frame = quality_frame(folder)
    good, bad = frame[frame["status"] == "ok"], frame[frame["status"] != "ok"]
    quality = {}
    for name in QUALITY:
        values = good[name].dropna().to_numpy(float)
        if len(values):
            tail = 0.05 if name == "identity" else 0.95
            quality[name] = (float(np.median(values)), float(np.quantile(values, tail)))
    review = tuple(good.loc[needs_review(good, limits), "photo_id"])
    return Summary(
        len(good), good["patient_id"].nunique(), dict(zip(bad["photo_id"], bad["error"])), quality, review
    )


def by_subgroup(folder: str | Path, patients: pd.DataFrame, by: str) -> pd.DataFrame:
    """Failures and median quality by a column of the cohort's patients.

    An inversion that is worse for one group makes every later result worse for that group.

    Parameters
    ----------
    folder : path
        The latents dataset.
    patients : DataFrame
        With ``patient_id`` and the column `by`.
    by : str

    Raises
    ------
    InputError
        If there is no such column.
    """
    if by not in patients:
        raise InputError(
            f"The cohort has no column {by!r}; expected one of {', '.join(map(str, patients.columns))}."
        )
    level = dict(zip(patients["patient_id"], patients[by]))
    frame = quality_frame(folder)
    groups = frame.assign(failed=frame["status"] != "ok").groupby(
        frame["patient_id"].map(level).rename(by), dropna=False, observed=True
    )
    table = groups.agg(photos=("photo_id", "size"), failed=("failed", "mean"))
    return table.join(groups[list(QUALITY)].median()).reset_index()


def contact_sheet(
    latents: Latents,
    photos: Photographs,
    out: str | Path,
    generator: Generator | str | Path,
    *,
    worst: int = 16,
    by: str = "lpips",
) -> list[str]:
    """Draw the worst photographs beside their reconstructions; returns their names, worst first.

    The sheet shows faces: it stays on this machine, and nothing but this function writes one.

    Parameters
    ----------
    latents : Latents
    photos : Chips or folder of chips
        What was embedded.
    out : path
        The picture to write.
    generator : Generator, path or zoo name
        The latents' own.
    worst : int
        How many photographs.
    by : {"lpips", "mse", "identity", "distance"}
        The quality that decides.

    Raises
    ------
    InputError
        If that quality was not graded or the picture cannot be written; :class:`Refused` if the generator is another.
    """
    check_picture(out)
    values = latents.rows[by].to_numpy(float) if by in QUALITY else np.array([])
    if not np.isfinite(values).any():
        raise InputError(
            f"These latents have no {by!r}; expected one of {', '.join(QUALITY)} that was graded."
        )
    order = np.argsort(values if by == "identity" else -values)[:worst]
    net = generator if isinstance(generator, Generator) else load_generator(generator)
    said = "It would draw other faces: the latents were made with"
    check_network("generator", net, latents.origin.generator.sha256, said, "Give that one by name or file.")
    source = open_source(photos)
    known = {photo.photo_id: photo for photo in source.photos}
    with torch.no_grad():
        drawn = net.synthesis(torch.from_numpy(latents.w_plus[order]).to(net.mapping.w_avg)).clamp(-1, 1)
    sheet = Image.new("RGB", (COLUMNS * 2 * CELL, -(-len(order) // COLUMNS) * (CELL + CAPTION)), "white")
    names = [str(name) for name in latents.ids[order]]
    for place, (name, picture, value) in enumerate(zip(names, drawn, values[order])):
        x, y = place % COLUMNS * 2 * CELL, place // COLUMNS * (CELL + CAPTION)
        if name in known:
            sheet.paste(_picture(source.load(known[name], net.config.resolution)), (x, y))
        sheet.paste(_picture(picture), (x + CELL, y))
        ImageDraw.Draw(sheet).text((x + 2, y + CELL + 3), f"{name}  {by} {value:.3f}", fill="black")
    sheet.save(out)
    return names


def check_picture(path: str | Path) -> None:
    """Whether a picture can be written there, before the work that it is to show."""
    suffix, folder = Path(path).suffix, Path(path).parent
    if Image.registered_extensions().get(suffix.lower()) not in Image.SAVE or not folder.is_dir():
        raise InputError(f"{path} cannot be written: name a .png or .jpg file in a folder that exists.")


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(to_pixels(image)).resize((CELL, CELL), Image.Resampling.LANCZOS)
