"""The whole comparison: every arm on the same folds, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact

from stylegan_surv._types import Array, Bools, Floats, Ints, Progress
from stylegan_surv.classify import measures, sources
from stylegan_surv.classify.chips import ChipSet, ChipSettings, make_chips
from stylegan_surv.classify.folds import by_level, holdout, set_folds
from stylegan_surv.classify.inputs import WITH_BOTH, WITHOUT_FACE
from stylegan_surv.classify.match import Matched
from stylegan_surv.classify.network import Kept, keep_trunk
from stylegan_surv.classify.people import SOURCES
from stylegan_surv.classify.result import Arm, Classification, Flow, HeldOut, Kind, Subgroup
from stylegan_surv.classify.ridge import Scored, cross_validated
from stylegan_surv.classify.training import Lesson, TrainSettings, score, train
from stylegan_surv.errors import InputError
from stylegan_surv.inversion import Latents
from stylegan_surv.survival.metrics.interval import Interval

NETWORK, LATENTS, NUMBERS, AGE_SEX = "network", "latents", "face numbers", "age and sex"
CHIPS, TRAINING, TRUNK = "chips", "training", "trunk.safetensors"  # within the folder of a study
LEAST_CASES = 20  # of a subgroup
AGE_EDGES = (50.0, 65.0)  # years
TONE_EDGES = (
    10.0,
    41.0,
)  # individual typology angle: brown and dark below 10°, light above 41° (Del Bino 2013)
TONES = ("dark or brown", "tan or intermediate", "light")


@dataclass(frozen=True)
class StudySettings:
    """How the study is done.

    Attributes
    ----------
    folds : int
        Of the cross-validation by matched set.
    holdout : float
        Share of the sets kept as one untouched test set instead; 0 for cross-validation.
    network : bool
        Train the network; without it, the face numbers are the main arm.
    resamples : int
        Bootstraps of the matched sets.
    seed : int
    chip : ChipSettings
    train : TrainSettings
    """

    folds: int = 5
    holdout: float = 0.0
    network: bool = True
    resamples: int = measures.RESAMPLES
    seed: int = 0
    chip: ChipSettings = field(default_factory=ChipSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True, eq=False)
class _Data:
    """The people whose photographs gave chips, in arrays."""

    table: pd.DataFrame
    case: Bools
    sets: Ints
    fold: Ints
    m: Floats
    crossed: bool


def classify(
    matched: Matched,
    folder: str | Path,
    settings: StudySettings | None = None,
    *,
    latents: Latents | None = None,
    progress: Progress | None = None,
) -> Classification:
    """Cut chips, train and compare all arms, and ask what else separates the classes.

    Parameters
    ----------
    matched : Matched
        Read with the folder of the photographs.
    folder : str or Path
        Where chips and networks are kept; a run that was killed goes on from there. The results are written there.
    settings : StudySettings, optional
    latents : Latents, optional
        W+ of the same photographs, for an arm of its own; people without one are left out of it.
    progress : callable, optional
        Called with (done, total) per network. Chips and trunk are read where :func:`make_chips` and :func:`trunk_of`
        have left them in the folder, each with a progress of its own.

    Returns
    -------
    Classification
    """
    settings, folder = settings or StudySettings(), Path(folder)
    chipset = make_chips(matched.people, folder / CHIPS, settings.chip)
    data = _arrays(chipset, settings)
    kept = trunk_of(chipset, folder, settings)
    scored: dict[str, tuple[Kind, Scored]] = {}
    if settings.network:
        scored[NETWORK] = (
            "face",
            _network(kept, data.case, data.sets, data.fold, folder, settings, progress),
        )
    for name, kind, x, scale in _linear_arms(chipset, kept, latents):
        scored[name] = (kind, _linear(x, data, scale, settings.seed))
    result = _compare(matched, chipset, data, scored, _left_out(kept, data, folder, settings), settings)
    result.save(folder)
    return result


def trunk_of(
    chipset: ChipSet, folder: Path, settings: StudySettings, progress: Progress | None = None
) -> Kept:
    """What the fixed part of the network gives for the chips of a study."""
    t = settings.train
    return keep_trunk(
        chipset.pixels(), folder / TRUNK, blocks=t.blocks, count=t.copies, fill=settings.chip.fill, seed=t.seed,
        progress=progress,
    )  # fmt: skip


def _arrays(chipset: ChipSet, settings: StudySettings) -> _Data:
    table = chipset.people.table
    sets = table["set"].to_numpy(int)
    crossed = settings.holdout <= 0
    fold = (
        set_folds(sets, settings.folds, settings.seed)
        if crossed
        else holdout(sets, settings.holdout, settings.seed)
    )
    m = measures.multiplicities(sets, settings.resamples, settings.seed)
    return _Data(table, chipset.people.case, sets, fold, m, crossed)


def _linear_arms(
    chipset: ChipSet, kept: Kept, latents: Latents | None
) -> Iterator[tuple[str, Kind, Floats, bool]]:
    """Name, kind, numbers and whether they are scaled, of every arm without a network of its own."""
    if latents is not None:
        yield LATENTS, "face", _aligned(latents, chipset.people.table), False
    yield NUMBERS, "face", kept.numbers.numpy().astype(float), False
    yield AGE_SEX, "baseline", _age_sex(chipset.people.table), True
    for name in WITHOUT_FACE:
        yield name, "without face", chipset.input(name), True
    for name in WITH_BOTH:
        yield name, "both", chipset.input(name), True


def _linear(x: Floats, data: _Data, scale: bool, seed: int) -> Scored:
    """Ridge on those whose numbers are known; the others neither train nor test it."""
    known = np.isfinite(x).all(axis=1)
    found = cross_validated(
        x[known], data.case[known], data.sets[known], data.fold[known], scale=scale, seed=seed
    )
    logit, positive = np.full(len(x), np.nan), np.zeros(len(x), bool)
    logit[known], positive[known] = found.logit, found.positive
    return Scored(logit, positive)


def _age_sex(table: pd.DataFrame) -> Floats:
    age = table["age"].to_numpy(float)
    sex = pd.get_dummies(table["sex"].astype(str)).to_numpy(float)
    return np.column_stack([age, (age - age.mean()) ** 2, sex])


def _aligned(latents: Latents, table: pd.DataFrame) -> Floats:
    """W+ in the order of the table, one row of NaN where a photograph has none."""
    place = {str(name): k for k, name in enumerate(latents.ids)}
    rows = [place.get(name, -1) for name in table["photo_id"]]
    if max(rows) < 0:
        raise InputError("the latents hold none of the matched photographs; embed them first.")
    w = latents.w_plus.reshape(len(latents.w_plus), -1).astype(float)
    return np.asarray(np.where(np.array(rows)[:, None] >= 0, w[rows], np.nan))


def _network(
    kept: Kept,
    case: Bools,
    sets: Ints,
    fold: Ints,
    folder: Path,
    settings: StudySettings,
    progress: Progress | None = None,
    where: str = TRAINING,
) -> Scored:
    """Networks of every fold and seed; log odds and thresholds are averaged over the seeds."""
    logit, positive = np.full(len(case), np.nan), np.zeros(len(case), bool)
    levels, seeds = np.unique(fold[fold >= 0]), settings.train.seeds
    place = folder / where
    place.mkdir(parents=True, exist_ok=True)
    for i, k in enumerate(levels):
        test = np.flatnonzero(fold == k)
        found, threshold = np.zeros(len(test)), 0.0
        for number in range(seeds):
            lesson = Lesson(kept, case, sets, np.asarray(fold != k), (int(k), number))
            trained = train(lesson, settings.train, place)
            found += score(trained.tail, kept, test) / seeds
            threshold += trained.threshold / seeds
            if progress:
                progress(i * seeds + number + 1, len(levels) * seeds)
        logit[test], positive[test] = found, found > threshold
    return Scored(logit, positive)


def _left_out(kept: Kept, data: _Data, folder: Path, settings: StudySettings) -> tuple[HeldOut, ...]:
    """The main arm trained on the other sources and tested within each, where sources hold both classes."""
    found = []
    for column in SOURCES:
        if column not in data.table or data.table[column].nunique() < 2:
            continue
        fold = by_level(data.table[column])
        names = sorted(data.table[column].dropna().unique())
        enough = [
            min((data.case & (fold == k)).sum(), (~data.case & (fold == k)).sum()) for k in range(len(names))
        ]
        judged = np.isin(fold, [k for k, n in enumerate(enough) if n >= sources.FEW])
        if not judged.any():
            continue
        fold = np.where(judged, fold, -1)
        if settings.network:
            scored = _network(
                kept, data.case, data.sets, fold, folder, settings, where=f"{TRAINING}/without-{column}"
            )
        else:
            x = kept.numbers.numpy().astype(float)
            scored = cross_validated(x, data.case, data.sets, fold, scale=False, seed=settings.seed)
        within = {
            str(names[k]): Interval.of_samples(
                measures.auc(data.case, scored.logit, np.where(fold == k, 0, -1), data.m)
            )
            for k in np.unique(fold[fold >= 0])
        }
        estimates = [i.estimate for i in within.values() if i.estimate is not None]
        found.append(HeldOut(column, within, float(np.mean(estimates))))
    return tuple(found)


def _compare(
    matched: Matched,
    chipset: ChipSet,
    data: _Data,
    scored: dict[str, tuple[Kind, Scored]],
    held_out: tuple[HeldOut, ...],
    settings: StudySettings,
) -> Classification:
    """All results from the scores."""
    samples = {n: measures.auc(data.case, s.logit, data.fold, data.m) for n, (_, s) in scored.items()}
    arms = {n: _arm(n, kind, s, samples[n], data) for n, (kind, s) in scored.items()}
    main = NETWORK if settings.network else NUMBERS
    tested = data.fold >= 0
    least = measures.detectable(
        int((data.case & tested).sum()), int((~data.case & tested).sum()), data.crossed
    )
    tables = sources.source_tables(data.table, data.case)
    without = {n: samples[n] for n, (kind, _) in scored.items() if kind == "without face"}
    verdict = sources.judge(arms[main].auc, without, tables, crossed=data.crossed, least=least)
    scores = data.table[["patient_id", "photo_id", "set", "group"]].assign(
        fold=data.fold, **{n: s.logit for n, (_, s) in scored.items()}
    )
    return Classification(
        verdict, main, arms,
        {n: _difference(data, scored[main][1], s, samples[n]) for n, (_, s) in scored.items() if n != main},
        _subgroups(data, chipset, scored[main][1]),
        tables, held_out, _flow(matched, chipset, data), matched.balance, least, asdict(settings), data.table, scores,
    )  # fmt: skip


def _difference(data: _Data, main: Scored, other: Scored, samples: Floats) -> Interval:
    """AUC of the main arm minus that of another, on the people whom both have scored."""
    both = np.where(np.isfinite(other.logit), main.logit, np.nan)
    return Interval.of_samples(measures.auc(data.case, both, data.fold, data.m) - samples)


def _arm(name: str, kind: Kind, scored: Scored, samples: Floats, data: _Data) -> Arm:
    known = (data.fold >= 0) & np.isfinite(scored.logit)
    fold = np.where(known, data.fold, -1)
    return Arm(
        name,
        kind,
        measures.auc_interval(samples, data.crossed),
        measures.operating(data.case, scored.positive, known, data.m),
        measures.calibration_slope(data.case, scored.logit, fold),
        measures.roc(data.case, scored.logit, fold, data.m) if kind in ("face", "baseline") else None,
    )


def _subgroups(data: _Data, chipset: ChipSet, scored: Scored) -> tuple[Subgroup, ...]:
    """AUC of the main arm by sex, age, skin tone and source."""
    age, tone = data.table["age"].to_numpy(float), chipset.tone()
    names = [
        f"below {AGE_EDGES[0]:g}",
        f"{AGE_EDGES[0]:g} to {AGE_EDGES[1]:g}",
        f"{AGE_EDGES[1]:g} and above",
    ]
    columns: dict[str, Array] = {"sex": data.table["sex"].astype(str).to_numpy()}
    columns["age"] = np.array(names)[np.digitize(age, AGE_EDGES)]
    toned = np.array(TONES)[np.digitize(np.nan_to_num(tone), TONE_EDGES)]
    columns["skin tone"] = np.where(np.isfinite(tone), toned, "not measurable")
    columns |= {
        c: data.table[c].fillna("not known").astype(str).to_numpy() for c in SOURCES if c in data.table
    }
    found = []
    for column, values in columns.items():
        for level in sorted(set(values)):
            here = (values == level) & (data.fold >= 0)
            cases, controls = int((here & data.case).sum()), int((here & ~data.case).sum())
            interval = None
            if min(cases, controls) >= LEAST_CASES:
                fold = np.where(here, data.fold, -1)
                samples = measures.auc(data.case, scored.logit, fold, data.m)
                interval = measures.auc_interval(samples, data.crossed)
            found.append(Subgroup(column, str(level), cases, controls, interval))
    return tuple(found)


def _flow(matched: Matched, chipset: ChipSet, data: _Data) -> Flow:
    failed = chipset.failures
    counts = [[bad, total - bad] for bad, total in failed.values()]
    return Flow(
        int(data.case.sum()), int((~data.case).sum()), len(matched.unmatched), matched.outside, failed,
        chipset.quality, float(fisher_exact(counts)[1]),
    )  # fmt: skip
