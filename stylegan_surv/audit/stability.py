"""How stable is a patient's risk? Repeated photographs, edited ones, reconstructions, other seeds.

All risks here are out of fold: a photograph is scored by the model of the fold that its patient was held out from. They
are in standard deviations of the held-out patients' risks, so that 1 is the usual distance between two patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import clone

from stylegan_surv._records import Section
from stylegan_surv._types import Floats, Ints, Pixels, Progress
from stylegan_surv.audit.controls import Agreement, reconstruction_agreement, repeat_photo_icc
from stylegan_surv.audit.judged import Judged
from stylegan_surv.errors import InputError
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.edits import EDITS
from stylegan_surv.survival.cox.ridge import CoxRidge
from stylegan_surv.survival.engines.registry import make_model
from stylegan_surv.survival.metrics.names import PHOTO
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.out_of_fold import scores_of

if TYPE_CHECKING:
    from stylegan_surv.gan import Encoder, Generator
    from stylegan_surv.inversion import Latents
    from stylegan_surv.inversion.settings import Settings

LEAST = 3  # photographs that an agreement needs
_BATCH = 16  # pictures drawn at once


@dataclass(frozen=True)
class SeedAgreement:
    """How much of the risk's variance is that of the division into folds and its seed.

    Attributes
    ----------
    icc, low, high : float
        Intraclass correlation of a patient's standardised out-of-fold risk over the repeats.
    sd : float
        Its standard deviation over repeats.
    repeats : int
    """

    icc: float
    low: float
    high: float
    sd: float
    repeats: int


@dataclass(frozen=True)
class Change:
    """How a risk changes when a picture is drawn or edited, and embedded again.

    Attributes
    ----------
    correlation, icc, shift : float
        As in `RiskAgreement`.
    moved : float
        Mean absolute change, in standard deviations of the out-of-fold risk.
    photographs : int
    """

    correlation: float
    icc: float
    shift: float
    moved: float
    photographs: int


@dataclass(frozen=True)
class Stability(Section):
    """How stable a patient's risk is; what does not apply is None.

    Attributes
    ----------
    seeds : SeedAgreement or None
    repeat_photo_icc : Agreement or None
        Over several photographs of the same patients.
    embedded_again : bool or None
        Whether the networks of the latents were at hand; None where nothing was asked for.
    reconstruction : Change or None
        The drawing of a latent, embedded again.
    edits : dict of Change, or None
        Edited photographs by the name of the edit. For methods that draw random numbers, another seed too.
    """

    seeds: SeedAgreement | None = None
    repeat_photo_icc: Agreement | None = None
    embedded_again: bool | None = None
    reconstruction: Change | None = None
    edits: Mapping[str, Change] | None = None


def stability(
    model: str,
    judged: Judged,
    latents: Latents,
    *,
    number: int,
    generator: Any = None,
    encoder: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Stability:
    """All checks of this module.

    Parameters
    ----------
    model : str
        The study's first model, by name.
    judged : Judged
    latents : Latents
        The study's.
    number : int
        Photographs to embed again; 0 for none.
    generator, encoder : network, path or zoo name, optional
        Of the latents; by default those that their metadata name.
    seed : int
        Chooses the photographs.
    progress : callable, optional
        Called with (done, total) kinds of pictures.
    """
    risk_of = fold_risk(model, judged)
    found = Stability(seeds(judged.photo, judged.outcome), repeated_photographs(risk_of, latents))
    if not number:
        return found
    again = Again.of(latents, generator, encoder)
    if again is None:
        return replace(found, embedded_again=False)
    reconstruction, edits = embedded_again(
        risk_of, latents, again, judged.chips, number=number, seed=seed, progress=progress
    )
    return replace(found, embedded_again=True, reconstruction=reconstruction, edits=edits)


@dataclass(frozen=True)
class FoldRisk:
    """The main model fitted without each fold, for photographs of the patients of that fold.

    Attributes
    ----------
    models : dict of int to estimator
    fold : dict of str to int
        Fold that a patient was held out in.
    centre, scale : dict of int to float
        Mean and standard deviation of the held-out patients' risks.
    """

    models: Mapping[int, Any]
    fold: Mapping[str, int]
    centre: Mapping[int, float]
    scale: Mapping[int, float]

    def __call__(self, w_plus: Floats, patients: Sequence[str]) -> Floats:
        """Standardised out-of-fold risks [k] of photographs `w_plus` [k, …]; NaN for patients never held out."""
        x = np.asarray(w_plus, np.float32).reshape(len(w_plus), -1)
        fold = np.array([self.fold.get(str(p), -1) for p in patients], int)
        risk = np.full(len(x), np.nan)
        for k, model in self.models.items():
            here = fold == k
            if here.any():
                risk[here] = (model.predict(x[here]) - self.centre[k]) / self.scale[k]
        return risk


def fold_risk(name: str, judged: Judged) -> FoldRisk:
    """Fit a model once without each fold of the first repeat.

    Parameters
    ----------
    name : str
        As in `make_model`. Ridge models take the penalty that was chosen in the fold, others choose anew.
    judged : Judged
    """
    models: dict[int, Any] = {}
    centre, scale = {}, {}
    x, outcome, fold = judged.x, judged.outcome, judged.fold
    for k in (int(k) for k in np.unique(fold) if k >= 0):
        train, test = fold != k, fold == k
        model = _with_penalty(make_model(name, *judged.shape), judged.chosen, k)
        models[k] = model.fit(x[train], outcome.subset(np.flatnonzero(train)).y)
        risk = model.predict(x[test])
        centre[k], scale[k] = float(risk.mean()), float(risk.std()) or 1.0
    owner = {str(p): int(k) for p, k in zip(outcome.patient_id, fold)}
    return FoldRisk(models, owner, centre, scale)


def _with_penalty(model: Any, chosen: pd.DataFrame, fold: int) -> Any:
    """A ridge model with the penalty that the cross-validation chose in this fold."""
    if not isinstance(model, CoxRidge):
        return model
    mine = (chosen["model"] == PHOTO) & (chosen["repeat"] == 0) & (chosen["fold"] == fold)
    values = dict(zip(chosen["parameter"][mine], chosen["value"][mine]))
    if not values:
        return model
    alpha = next(iter(values.values()))
    if len(values) > 1:
        alpha = {k.removeprefix("alpha[").removesuffix("]"): v for k, v in values.items()}
    return clone(model).set_params(alphas=(alpha,), cv=None)


def repeated_photographs(risk_of: FoldRisk, latents: Latents) -> Agreement | None:
    """ICC(1) of the risk over several photographs of the same patients; None with fewer than three such patients."""
    owner = pd.Series(np.asarray(latents.patient_ids).astype(str))
    several = owner.duplicated(keep=False).to_numpy()
    if not several.any():
        return None
    who = owner[several].to_numpy()
    return repeat_photo_icc(risk_of(latents.codes[several], list(who)), who)


def seeds(photo: pd.DataFrame, outcome: Outcome) -> SeedAgreement | None:
    """How much of the risk's variance is that of the division into folds and its seed; None with one repeat.

    Parameters
    ----------
    photo : DataFrame
        One model's out-of-fold rows.
    outcome : Outcome
    """
    scores = scores_of(photo, outcome)
    if len(scores.risk) < 2:
        return None
    z = np.array([_standardised(risk, fold) for risk, fold in zip(scores.risk, scores.fold)])
    z = z[:, np.isfinite(z).all(axis=0)]
    found = repeat_photo_icc(z.T.ravel(), np.repeat(np.arange(z.shape[1]), len(z)))
    if found is None:
        return None
    sd = float(np.sqrt(z.var(axis=0, ddof=1).mean()))
    return SeedAgreement(found.icc, found.low, found.high, sd, len(z))


def _standardised(risk: Floats, fold: Ints) -> Floats:
    groups = pd.Series(np.where(fold >= 0, risk, np.nan)).groupby(fold)
    return np.asarray((risk - groups.transform("mean")) / groups.transform("std"))


@dataclass(frozen=True)
class Again:
    """Embeds pictures as the study's photographs were embedded.

    Attributes
    ----------
    generator : Generator
    encoder : Encoder, optional
        The study's networks.
    settings : Settings
        With which the photographs were inverted.
    """

    generator: Generator
    encoder: Encoder | None
    settings: Settings

    @classmethod
    def of(cls, latents: Latents, generator: Any = None, encoder: Any = None) -> Again | None:
        """As the metadata of the latents say; None where their networks or their image distance are not at hand."""
        from stylegan_surv.inversion.again import generator_of, inverter_of

        origin = latents.origin
        if generator is None and origin.generator.name is None:
            return None
        beside = generator if isinstance(generator, str | Path) else None
        try:
            net = generator_of(origin, generator)
            inverter = inverter_of(origin, net, beside if encoder is None else encoder)
        except InputError:  # not at hand, or a later network under the same name
            return None
        return cls(inverter.generator, inverter.encoder, inverter.settings)

    def embed(self, images: Any, names: Sequence[str], seed: int | None = None) -> Floats:
        """What the model reads [n, survival_ws, w_dim] of pictures in [−1, 1]; with another seed if one is given."""
        from stylegan_surv.inversion import EmbedSettings, Pictures, embed

        asked = EmbedSettings.of(self.settings)
        found = embed(
            Pictures(images, names, names),
            generator=self.generator,
            encoder=self.encoder,
            settings=asked if seed is None else replace(asked, seed=seed),
        )
        row = {str(name): k for k, name in enumerate(found.ids)}
        return np.asarray(found.codes[[row[name] for name in names]])

    def draw(self, w_plus: Floats) -> Any:
        """The generator's pictures of latents, [n, 3, R, R] in [−1, 1]."""
        import torch

        with torch.no_grad():
            parts = [
                self.generator.synthesis(torch.from_numpy(w_plus[k : k + _BATCH]))
                for k in range(0, len(w_plus), _BATCH)
            ]
        return torch.cat(parts).clamp(-1, 1)

    def pixels(self, chips: Sequence[Pixels]) -> Any:
        """Chips at the generator's resolution, [n, 3, R, R]."""
        import torch

        from stylegan_surv.inversion.sources import chip_tensor

        side = self.generator.config.resolution
        return torch.stack([chip_tensor(Image.fromarray(chip), side) for chip in chips])


def embedded_again(
    risk_of: FoldRisk,
    latents: Latents,
    again: Again,
    chips: Chips | None = None,
    *,
    number: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Change | None, dict[str, Change] | None]:
    """Risks of reconstructions and of edited photographs beside those of the photographs themselves.

    Parameters
    ----------
    risk_of : FoldRisk
    latents : Latents
        The study's.
    again : Again
    chips : Chips, optional
        The aligned photographs, for the edits; without them there is the reconstruction only.
    number : int
        Photographs to use, drawn at random, of different patients.

    seed : int
        Chooses them.
    progress : callable, optional
        Called with (done, total) kinds of pictures.

    Returns
    -------
    reconstruction : Change or None
        None with fewer than three photographs.
    edits : dict of Change, or None
        None without chips.
    """
    rows = one_each(latents, list(risk_of.fold), number, seed)
    if len(rows) < LEAST:
        return None, None
    names = [str(latents.ids[i]) for i in rows]
    who = [str(latents.patient_ids[i]) for i in rows]
    before = risk_of(latents.codes[rows], who)
    pictures: dict[str, Callable[[], Any]] = {"reconstruction": partial(again.draw, latents.w_plus[rows])}
    if chips is not None:
        faces = [chips.load(name) for name in names]
        others = faces[1:] + faces[:1]
        for name, edit in EDITS.items():
            pictures[name] = partial(_edited, again, edit, faces, others)
    risks: dict[str, Floats] = {}
    for k, (name, draw) in enumerate(pictures.items()):
        risks[name] = risk_of(again.embed(draw(), names), who)
        if progress:
            progress(k + 1, len(pictures))
    if chips is not None and again.settings.method != "encoder":
        other = again.embed(again.pixels(faces), names, seed=again.settings.seed + 1)
        risks["another seed of the inversion"] = risk_of(other, who)
    found = {name: _change(before, after) for name, after in risks.items()}
    reconstruction = found.pop("reconstruction")
    return reconstruction, found or None


def _edited(
    again: Again,
    edit: Callable[..., Any],
    faces: Sequence[Pixels],
    others: Sequence[Pixels],
) -> Any:
    return again.pixels([edit(a, b) for a, b in zip(faces, others)])


def one_each(latents: Latents, patients: Sequence[str], number: int, seed: int) -> Ints:
    """Rows of at most `number` photographs drawn at random, one of each patient, in increasing order."""
    owner = np.asarray(latents.patient_ids).astype(str)
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(owner, patients)))
    first = np.unique(owner[rows], return_index=True)[1]
    return np.sort(rows[np.sort(first)][:number])


def _change(before: Floats, after: Floats) -> Change:
    agreed = reconstruction_agreement(before, after)
    moved = float(np.mean(np.abs(after - before)))
    return Change(agreed.correlation, agreed.icc, agreed.shift, moved, len(before))
