"""How much of a latent is the search's own chance: some photographs inverted again with other seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion.inverter import Inverter, Settings, fingerprint, networks
from stylegan_surv.inversion.latents import Latents
from stylegan_surv.inversion.projector import Schedule
from stylegan_surv.inversion.sources import open_source


@dataclass(frozen=True)
class SeedVariance:
    """Spread of the elements of W+, root mean square, in standard deviations of w.

    Attributes
    ----------
    photos, seeds : how many of each were compared.
    within : between seeds of one photograph.
    between : between photographs (of their means over seeds).
    """

    photos: int
    seeds: int
    within: float
    between: float

    @property
    def reliability(self) -> float:
        """Share of the variance that belongs to the photograph (intraclass correlation), 0 to 1."""
        return self.between**2 / (self.between**2 + self.within**2)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {**asdict(self), "reliability": self.reliability}

    def __str__(self) -> str:
        return (
            f"{self.photos} photographs with {self.seeds} seeds each: a latent varies by {self.within:.3f} between "
            f"seeds and by {self.between:.3f} between photographs (SD of w); reliability {self.reliability:.4f}"
        )


def seed_variance(
    folder: str | Path,
    photos: Any,
    *,
    generator: Generator | str | Path = "synthetic-64",
    encoder: Encoder | str | Path | None = None,
    sample: int = 16,
    seeds: int = 3,
    device: str = "cpu",
) -> SeedVariance:
    """Invert a random sample of a dataset's photographs again, with its own settings but for the seed.

    Parameters
    ----------
    folder : the latents dataset.
    photos : what was embedded: Chips or a folder of chips.
    generator, encoder : the dataset's own.
    sample, seeds : photographs and seeds, 2 or more each.
    """
    if min(sample, seeds) < 2:
        raise InputError(f"sample is {sample} and seeds {seeds}; expected 2 or more of each.")
    latents = Latents.open(folder)
    stored = dict(latents.metadata["settings"])
    plan = stored["schedule"]
    settings = Settings(**{**stored, "schedule": None if plan is None else Schedule(**plan)})
    net, partner = networks(generator, encoder, settings, device)
    if fingerprint(net) != latents.metadata["generator_sha256"]:
        raise Refused(f"{folder} was made with another generator; give it by name or file.")
    source = open_source(photos)
    known = {photo.photo_id: photo for photo in source.photos}
    names = [name for name in latents.ids if name in known]
    if len(names) < 2:
        raise InputError(
            f"Of the {len(latents)} photographs in {folder}, {len(names)} are among the chips given."
        )
    chosen = np.random.default_rng(0).permutation(len(names))[:sample]
    found = []
    for seed in range(seeds):
        inverter = Inverter(net, partner, replace(settings, seed=seed))
        rows = inverter.rows(inverter.load(source, [known[names[i]] for i in chosen]))
        found.append([row["w_plus"] for row in rows if row["status"] == "ok"])
    w_plus = np.asarray(found, dtype=float) / inverter.scale
    within = np.sqrt(w_plus.var(axis=0, ddof=1).mean())
    between = np.sqrt(w_plus.mean(axis=0).var(axis=0, ddof=1).mean())
    return SeedVariance(w_plus.shape[1], seeds, float(within), float(between))
