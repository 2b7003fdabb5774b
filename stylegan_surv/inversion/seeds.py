"""How much of a latent is the search's own chance: some photographs inverted again with other seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from stylegan_surv._types import Floats
from stylegan_surv.errors import InputError
from stylegan_surv.gan import Encoder, Generator
from stylegan_surv.inversion.again import settings_of
from stylegan_surv.inversion.inverter import Inverter, networks
from stylegan_surv.inversion.latents import Latents
from stylegan_surv.inversion.settings import GENERATOR
from stylegan_surv.inversion.sources import Photographs, open_source

SAMPLE, SEEDS = 16, 3


@dataclass(frozen=True)
class SeedVariance:
    """Spread of the elements of W+, root mean square, in standard deviations of w.

    Attributes
    ----------
    photos, seeds : int
        How many of each were compared.
    within : float
        Between seeds of one photograph.
    between : float
        Between photographs, beyond what chance gives their means over the seeds.
    """

    photos: int
    seeds: int
    within: float
    between: float

    @property
    def reliability(self) -> float:
        """Share of the variance that belongs to the photograph (intraclass correlation), 0 to 1."""
        total = self.between**2 + self.within**2
        return self.between**2 / total if total else 0.0

    @classmethod
    def of(cls, w_plus: Floats) -> SeedVariance:
        """Of latents [seeds, photos, ...] in standard deviations of w (one-way analysis of variance)."""
        within = w_plus.var(axis=0, ddof=1).mean()
        between = max(w_plus.mean(axis=0).var(axis=0, ddof=1).mean() - within / len(w_plus), 0.0)
        return cls(w_plus.shape[1], len(w_plus), float(np.sqrt(within)), float(np.sqrt(between)))

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
    photos: Photographs,
    *,
    generator: Generator | str | Path = GENERATOR,
    encoder: Encoder | str | Path | None = None,
    sample: int = SAMPLE,
    seeds: int = SEEDS,
    device: str = "cpu",
) -> SeedVariance:
    """Invert a random sample of a dataset's photographs again, with its own settings but for the seed.

    Parameters
    ----------
    folder : path
        The latents dataset.
    photos : Chips or folder of chips
        What was embedded.
    generator, encoder : network, path or zoo name
        The dataset's own.
    sample, seeds : int
        Photographs and seeds, 2 or more each.
    device : str
        Of networks that are given by name or file.

    Raises
    ------
    InputError
        If there are too few photographs; :class:`Refused` if the networks are others, or the latents went on from
        earlier ones.
    """
    if min(sample, seeds) < 2:
        raise InputError(f"sample is {sample} and seeds {seeds}; expected 2 or more of each.")
    latents = Latents.open(folder)
    settings = settings_of(latents.origin)
    net, partner = networks(generator, encoder, settings, device)
    latents.origin.check_networks(net, partner, f"{folder} was made with", "Give it by name or file.")
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
    if len(found[0]) < 2:
        raise InputError(f"{len(found[0])} of the {len(chosen)} chips could be read; expected 2 or more.")
    return SeedVariance.of(np.asarray(found, dtype=float) / inverter.scale)
