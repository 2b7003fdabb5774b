"""Runs that grow a pair: from a generator, its encoder and chips of twice its resolution, to a folder of results.

The folder holds ``state.safetensors`` (everything to go on from, bit for bit), ``codes.safetensors`` (of the training
chips), ``generator.safetensors`` and ``encoder.safetensors`` (as of the last check), ``log.jsonl`` and sheets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import MIN_CHIPS, ImageSet, hold_out, read_chips
from stylegan_surv.gan.formats import provenance
from stylegan_surv.gan.formats.checkpoint import load_encoder, load_generator, save_network
from stylegan_surv.gan.grading.grids import save_grid
from stylegan_surv.gan.networks import Encoder, Generator
from stylegan_surv.gan.networks.resampling import reduced
from stylegan_surv.gan.training import parallel
from stylegan_surv.gan.training.block import widened
from stylegan_surv.gan.training.codes import CHUNK, Codes, encoded, projected
from stylegan_surv.gan.training.grow import Grower, GrowthRecipe

CODES_FILE = "codes.safetensors"
SHOWN, SHEET = 16, 32  # reconstructions and samples on a sheet
SHEET_TRUNCATION = 0.7


@dataclass(frozen=True)
class Growth:
    """What a run left.

    Attributes
    ----------
    folder : Path
    images : int
        Chips seen so far.
    finished : bool
        False if it was interrupted; the same call goes on.
    trained_on, held_out : int
        Number of chips.
    errors : dict
        Held-out ``lpips`` and ``mse`` of the last check; empty if nothing was held out.
    """

    folder: Path
    images: int
    finished: bool
    trained_on: int
    held_out: int
    errors: dict[str, float]


def grow(
    recipe: GrowthRecipe,
    photos: str | Path,
    out: str | Path,
    *,
    start: str | Path,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Growth:
    """Grow a generator by a block, with its encoder.

    Parameters
    ----------
    recipe : GrowthRecipe
    photos : str or Path
        Folder of face chips of at least twice the generator's resolution.
    out : str or Path
        Folder of the run; one that was interrupted there goes on.
    start : str or Path
        The pair to grow: a bundled name, a run's folder or a generator's file beside its encoder's.
    stop : callable
        Asked after every step.
    progress : callable, optional
        Called with the number of chips seen and their total.

    Raises
    ------
    InputError
        If the chips are too few or too small, or the folder holds another run.
    """
    base, encoder, out = load_generator(start), load_encoder(start), Path(out)
    chips = read_chips(photos, 2 * base.config.resolution, drop_captions=recipe.drop_captions)
    into, aside = hold_out(chips.patients, recipe.hold_out, recipe.seed)
    if len(into) < MIN_CHIPS:
        raise InputError(f"{len(into)} chips are left to train on; expected at least {MIN_CHIPS}")
    data, held_out = chips.subset(into), chips.subset(aside)
    out.mkdir(parents=True, exist_ok=True)
    codes = _codes(recipe, base, encoder, data, out / CODES_FILE, stop)
    if codes is None:
        return Growth(out, 0, False, len(data), len(held_out), {})
    grower = Grower(recipe, base, data, codes, out)
    resumed = grower.resume()
    watcher = GrowthWatcher(grower, encoder, held_out, _card(recipe, base, encoder, data))
    if not resumed:
        watcher.check()
    grower.run(stop=stop, check=watcher.check, progress=progress)
    finished = not stop()
    if finished and watcher.checked != grower.images:
        watcher.check()
    return Growth(out, grower.images, finished, len(data), len(held_out), watcher.errors)


def _codes(
    recipe: GrowthRecipe,
    base: Generator,
    encoder: Encoder,
    data: ImageSet,
    path: Path,
    stop: Callable[[], bool],
) -> Codes | None:
    """Codes of the chips, optimised where the recipe says so, and of the mirrored chips, as the encoder has them."""
    small = small_images(data, base.config.resolution)
    codes, mirrored = encoded(encoder, small), encoded(encoder, small.flip(3))
    if recipe.projector_steps:
        key = ", ".join([data.digest, *(str(net.card.get("sha256")) for net in (base, encoder))])
        better = projected(base, codes, small, path, steps=recipe.projector_steps, key=key, stop=stop)
        if better is None:
            return None
        codes = better
    return Codes(*(torch.cat(pair) for pair in ((codes.w, mirrored.w), (codes.w_plus, mirrored.w_plus))))


def small_images(images: ImageSet, resolution: int) -> Tensor:
    """Images as the base's encoder sees them: made smaller, rounded to 8 bits as a saved picture is."""
    parts = [
        reduced(images.images(slice(at, at + CHUNK)), resolution).clamp(-1, 1)
        for at in range(0, len(images), CHUNK)
    ]
    return torch.cat(parts).add(1).mul(127.5).round().div(127.5).sub(1)


def _card(recipe: GrowthRecipe, base: Generator, encoder: Encoder, data: ImageSet) -> dict[str, Any]:
    """Licence, data, base and provenance of the grown pair."""
    salt = (
        parallel.digest_of_names([str(base.card.get("sha256")), *data.ids]) * 2
    )  # the same when the run goes on
    return {
        "name": recipe.name,
        "licence": base.card.get("licence", "not stated"),
        "data": f"{base.card.get('data', 'not stated')}; its highest block: {len(data)} photographs",
        "base_sha256": base.card.get("sha256"),
        "encoder_base_sha256": encoder.card.get("sha256"),
        "recipe": recipe.model_dump(mode="json"),
        # rows of a code beyond these are detail, equal to w where an encoder gave them
        "survival_ws": base.config.num_ws,
        "provenance": provenance.record(
            data.pixels, data.owners or None, base=[base.card, encoder.card], salt=salt
        ),
    }


class GrowthWatcher:
    """Checks a run: held-out errors, sheets, and the pair as it stands.

    Parameters
    ----------
    grower : Grower
    encoder : Encoder
        Of the base.
    held_out : ImageSet
        Chips that do not train.
    card : dict
        Entries of the cards.
    """

    def __init__(self, grower: Grower, encoder: Encoder, held_out: ImageSet, card: dict[str, Any]) -> None:
        self.grower, self.held_out, self.card = grower, held_out, card
        self.encoder = widened(encoder)
        self.small = small_images(held_out, encoder.shape.resolution) if len(held_out) else None
        self.errors: dict[str, float] = {}
        self.checked = -1

    @torch.no_grad()
    def check(self) -> None:
        """Measure, draw and publish."""
        g = self.grower
        self.checked = g.images
        rng = torch.Generator().manual_seed(g.recipe.seed)
        z = torch.randn(SHEET, g.base.config.z_dim, generator=rng)
        samples = g.generator.synthesis(g.generator.mapping(z, truncation_psi=SHEET_TRUNCATION))
        save_grid(samples, g.out / "samples.png", columns=8)
        if self.small is not None:
            self.errors = self._held_out_errors(self.small)
            g.log(self.errors, "check")
        card = {**self.card, "images_seen": g.images, "cpu_hours": round(g.cpu_seconds / 3600, 2)}
        card["measures"] = {f"held_out_{k}": round(v, 5) for k, v in self.errors.items()}
        save_network(g.generator, g.out / "generator.safetensors", card)
        save_network(self.encoder, g.out / "encoder.safetensors", card)

    def _held_out_errors(self, small: Tensor) -> dict[str, float]:
        g = self.grower
        lpips: list[Tensor] = []
        mse: list[Tensor] = []
        sheet: list[Tensor] = []
        for at in range(0, len(small), CHUNK):
            real = self.held_out.images(slice(at, at + CHUNK))
            drawn = g.generator.synthesis(self.encoder(small[at : at + CHUNK])).clamp(-1, 1)
            lpips.append(g.network(drawn, real))
            mse.append((drawn - real).square().mean(dim=(1, 2, 3)))
            if not sheet:
                sheet = [x[k : k + 8] for k in (0, 8) for x in (real[:SHOWN], drawn[:SHOWN])]
        save_grid(torch.cat(sheet), g.out / "reconstructions.png", columns=8)
        return {"lpips": float(torch.cat(lpips).mean()), "mse": float(torch.cat(mse).mean())}
