"""Looking at a run: held-out reconstructions, sheets of samples, and the networks as they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._types import Ints, Progress
from stylegan_surv.gan.data import ImageSet, batch_of
from stylegan_surv.gan.formats.checkpoint import amend_card, load_generator, read_card, save_network
from stylegan_surv.gan.grading.grids import save_grid
from stylegan_surv.gan.grading.measures import reconstruct, sample
from stylegan_surv.gan.grading.memorisation import MIN_HELD_OUT, Guard
from stylegan_surv.gan.networks import LPIPS, Encoder, Generator
from stylegan_surv.gan.training.start import PARTS
from stylegan_surv.gan.training.trainer import Trainer

SHEET = 64  # samples on a sheet
CHUNK = 64  # images at a time, at 64 px
SHOWN = 32  # reconstructions on a sheet, in rows of 16
INVERTED, INVERSION_STEPS = 32, 50  # the held-out budget where there is no encoder


def by_chance(patients: Sequence[str], seed: int) -> Ints:
    """The order of photographs, given whose they are, in which to take some: first one of every patient."""
    before: Counter[str] = Counter()
    turns = []
    order = np.random.default_rng(seed).permutation(len(patients))
    for i in order:
        turns.append(before[patients[i]])
        before[patients[i]] += 1
    chosen: Ints = order[np.argsort(turns, kind="stable")]
    return chosen


@torch.no_grad()
def reconstruction_errors(
    generator: Generator, encoder: Encoder, images: ImageSet, lpips: LPIPS
) -> tuple[dict[str, float], Tensor]:
    """How well encoder and generator redraw images that they were not trained on.

    Returns
    -------
    errors : dict of str to float
        Means of ``lpips`` and ``mse`` ([−1, 1] scale) from w and offsets, and of ``lpips_w``, ``mse_w`` from w alone.
    sheet : Tensor, shape (96 or fewer, 3, h, w)
        Rows of 16 originals, reconstructions, reconstructions from w alone.
    """
    totals = dict.fromkeys(("lpips", "mse", "lpips_w", "mse_w"), 0.0)
    shown: list[Tensor] = []
    like, many = next(generator.parameters()), batch_of(CHUNK, generator.config.resolution)
    for at in range(0, len(images), many):
        real = images.images(slice(at, at + many)).to(like)
        w, offsets = encoder.split(real)
        both = generator.synthesis(w.unsqueeze(1) + offsets)
        only = generator.synthesis(w.unsqueeze(1).expand(-1, generator.config.num_ws, -1))
        for drawn, suffix in ((both, ""), (only, "_w")):
            totals[f"lpips{suffix}"] += float(lpips(drawn, real).sum())
            totals[f"mse{suffix}"] += float((drawn - real).square().mean(dim=(1, 2, 3)).sum())
        if at < SHOWN:
            shown.append(torch.stack([real, both, only]).cpu())
    rows = torch.cat(shown, dim=1)[:, :SHOWN].split(16, dim=1)
    return {k: v / len(images) for k, v in totals.items()}, torch.cat([row.flatten(0, 1) for row in rows])


class Watcher:
    """Checks a trainer's averaged networks on held-out images and keeps the best.

    Parameters
    ----------
    trainer : Trainer
        The run, resumed if it is to be.
    held_out : ImageSet
        Images that it never trains on.
    card : dict
        Licence, data and provenance for the networks' cards.

    Attributes
    ----------
    latest, best : dict of str to float
        Held-out errors of the last check and of the best one (lowest ``lpips``).
    memorisation : dict
        After :meth:`finish`, what the card of the best networks says; empty where too few are held out.
    """

    def __init__(self, trainer: Trainer, held_out: ImageSet, card: dict[str, Any]) -> None:
        self.trainer, self.held_out, self.card = trainer, held_out, card
        self.latest: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.worse = 0  # checks since the best one
        self.checked = -1  # images at the last check
        self.memorisation: dict[str, Any] = {}
        self._recall()

    def _recall(self) -> None:
        """After a resume: the checks so far, from the log."""
        for record in self.trainer.records.records() if self.trainer.records else ():
            if record["kind"] == "check":
                self.checked = record["images"]
                self.latest = {k: record[k] for k in record if k.startswith(("lpips", "mse"))}
                if self.latest:
                    self._rank(self.latest)

    def _rank(self, errors: dict[str, float]) -> bool:
        better = not self.best or errors["lpips"] < self.best["lpips"]
        self.best, self.worse = (errors, 0) if better else (self.best, self.worse + 1)
        return better

    @property
    def patience_is_over(self) -> bool:
        """Whether the held-out error has not fallen for as many checks as the recipe allows."""
        patience = self.trainer.recipe.patience
        return patience is not None and self.worse >= patience

    def check(self) -> None:
        """Write sheets, networks and a ``check`` line of the log; a new best goes to ``best/``."""
        t = self.trainer
        self.checked = t.images
        self._draw_samples()
        if len(self.held_out):
            self.latest = {k: round(v, 5) for k, v in self._held_out_errors().items()}
            t.log(self.latest, "check")
            if self._rank(self.latest):
                self.publish(t.out / "best")
        self.publish(t.out)

    @torch.no_grad()
    def _draw_samples(self) -> None:
        t = self.trainer
        z = torch.randn(SHEET, t.G_ema.config.z_dim, generator=torch.Generator().manual_seed(t.recipe.seed))
        for psi in (1.0, 0.7):
            images = self._drawn(t.G_ema.mapping(z.to(t.bank), truncation_psi=psi))
            save_grid(images, t.out / f"samples-psi{psi:g}.png", columns=16)

    @torch.no_grad()
    def _drawn(self, w_plus: Tensor) -> Tensor:
        G = self.trainer.G_ema
        parts = w_plus.to(self.trainer.bank).split(batch_of(CHUNK, G.config.resolution))
        return torch.cat([G.synthesis(part).cpu() for part in parts])

    def _held_out_errors(self) -> dict[str, float]:
        """By the encoder or, where there is none, after a fixed budget of inversion steps."""
        t = self.trainer
        if t.E_ema is not None:
            errors, sheet = reconstruction_errors(t.G_ema, t.E_ema, self.held_out, t.players.lpips)
        else:
            order = by_chance(self.held_out.patients, t.recipe.seed)
            some = self.held_out.images(order[:INVERTED]).to(t.bank.dtype)
            done = reconstruct(t.G_ema, some, steps=INVERSION_STEPS, network=t.players.lpips)
            errors = {"lpips": float(done.lpips.mean()), "mse": float(done.mse.mean())}
            sheet = torch.cat([some[:16], self._drawn(done.w_plus[:16])])
        save_grid(sheet, t.out / "reconstructions.png", columns=16)
        return errors

    def finish(self, progress: Progress | None = None) -> None:
        """At a run's end: look whether the last and the best networks copy, and write that into their cards.

        Networks whose card says it are not looked at again. ``progress`` is called with the number of photographs that
        are compared; it may raise to stop.
        """
        t = self.trainer
        if self.checked != t.images:
            self.check()
        if len(self.held_out) < MIN_HELD_OUT:
            said = f"not measured: {len(self.held_out)} photographs held out, {MIN_HELD_OUT} needed"
            for folder in (t.out, t.out / "best"):
                self._amend(folder, said)
            return
        guard, identity = None, t.recipe.check_identity
        for folder in (t.out, t.out / "best"):
            path = folder / "generator.safetensors"
            found = read_card(path).get("memorisation")
            if not isinstance(found, dict) or ("identity" in found) != identity:
                guard = guard or Guard(t.data, self.held_out, identity=identity, progress=progress)
                found = guard(sample(load_generator(path), SHEET)).as_card()
                self._amend(folder, found)
            self.memorisation = found

    def _amend(self, folder: Path, memorisation: Any) -> None:
        for name in reversed(PARTS):  # the generator, whose card is asked, comes last
            if (path := folder / f"{name}.safetensors").exists():
                amend_card(path, {"memorisation": memorisation})

    def publish(self, folder: Path, *, half: bool = False) -> None:
        """Write the averaged generator and encoder and the discriminator, with the run's card."""
        folder.mkdir(exist_ok=True)
        t = self.trainer
        card = {
            **self.card,
            "images_seen": t.images,
            "cpu_hours": round(t.cpu_seconds / 3600, 2),
            "measures": {f"held_out_{k}": v for k, v in self.latest.items()},
        }
        for name, net in zip(PARTS, (t.G_ema, t.E_ema, t.players.D)):
            if net is not None:
                save_network(net, folder / f"{name}.safetensors", card, half=half)
