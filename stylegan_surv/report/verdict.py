"""What the numbers say, in plain words: the first screen of the report.

Every sentence is a rule on numbers of ``metrics.json``; the thresholds stand here by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from stylegan_surv.survival.metrics import names

if TYPE_CHECKING:
    from stylegan_surv.study.data import Exposure

Level = Literal["plain", "good", "caution", "alarm"]
Topic = Literal["found", "sure", "confounds"]
TOPICS: tuple[Topic, ...] = ("found", "sure", "confounds")
LEVELS: tuple[Level, ...] = ("plain", "alarm", "caution", "good")  # the worst news first
Number = Mapping[str, Any]

ASSOCIATION = (
    "The health attribute is an association in this cohort. It is not a diagnosis, and it does not show what a "
    "treatment would change."
)
LOST = 0.25  # share of C − .5 that may disappear within strata before it is an alarm
BETRAYED_AUC, BETRAYED_R2 = 0.65, 0.15  # a column that the latents tell this well may carry the result
NUISANCE_SHARE = 0.5  # share of the photograph's C − .5 that pictures without a face may reach
MOVED = 0.5  # mean change of the risk, in SD, that a change of the picture may make
UNSTABLE_ICC = 0.75  # below, reliability is moderate at best (Koo & Li 2016)
CENSORING = 0.02  # how far Uno's C may depend on the model of the censoring
PERMUTED = 0.02  # how far from .5 the mean C of permuted outcomes may lie
FEW_EVENTS = 100  # below, an external validation is unreliable (Collins et al. 2016)
TESTED = 0.05
ROLES = 3  # site, camera and year
KNOWS = 0.4  # |C - .5| of a clinical variable by itself above which it is hardly of time zero
KNOWS_EVENT = 0.9  # correlation of a yes/no variable, or of gaps in it, with the event
NAMES = {
    "strata": "the strata",
    "era": "the era",
    "site": "the site",
    "camera": "the camera",
    "year": "the year",
    "entry_year": "the year of entry",
    "photo_year": "the year of the photograph",
    "origin_year": "the year of time zero",
}


@dataclass(frozen=True)
class Finding:
    """One heading with a sentence or two; `level` sets its colour, `topic` its place."""

    topic: Topic
    level: Level
    title: str
    text: str


def findings(
    metrics: Mapping[str, Any],
    flow: Mapping[str, Any],
    flags: Sequence[str] = (),
    provenance: Exposure | None = None,
    tried: int | None = None,
) -> list[Finding]:
    """The first screen: what was found, how sure it is, what confounds it."""
    models, controls = metrics["models"], metrics.get("controls", {})
    found = [
        *_photo(models, flow),
        *_added(metrics),
        *_recognition(metrics),
        *_tried(tried),
        *_permuted(controls),
        *_events(flow),
        *_beyond_follow_up(metrics.get("settings", {})),
        *_calibrated(models),
        *_covariates(metrics.get("covariates") or {}),
        *_unchecked(metrics.get("circumstances") or {}),
        *_within(metrics),
        *_without_face(models),
        *_betrayed(controls),
        *_duplicates(controls),
        *_seen(provenance, metrics.get("c_provenance") or {}),
        *_late(flow),
        *_unstable(controls),
        *_censored(metrics),
    ]
    found += [Finding("confounds", "caution", "Note on the data", flag) for flag in flags]
    return sorted(found, key=lambda f: (TOPICS.index(f.topic), LEVELS.index(f.level)))


def number(value: Number, digits: int = 3) -> str:
    """ ".677 (95 % interval .641 to .712)", or the estimate alone."""
    if value.get("estimate") is None:
        return "not available"
    if value.get("low") is None or value.get("high") is None:
        return f"{value['estimate']:.{digits}f}"
    low, high = (f"{value[k]:.{digits}f}" for k in ("low", "high"))
    return f"{value['estimate']:.{digits}f} (95 % interval {low} to {high})".replace("-", "\u2212")


def _has_interval(value: Number | None) -> TypeGuard[Number]:
    return value is not None and all(value.get(k) is not None for k in ("estimate", "low", "high"))


def _photo(models: Mapping[str, Any], flow: Mapping[str, Any]) -> Iterator[Finding]:
    photo, clinical = models.get(names.PHOTO, {}), models.get(names.CLINICAL, {})
    c, within = photo.get(names.HARRELL_C), photo.get(names.STRATIFIED_C)
    if not _has_interval(c):
        return
    text = f"C {number(c)}; 0.5 is chance. {flow['patients']:,} patients, {flow['events']:,} with the event."
    if clinical:
        text += f" The clinical variables reach {clinical[names.HARRELL_C]['estimate']:.3f}."
    title = "The photograph ranks patients by risk better than chance"
    if c["low"] <= 0.5:
        title = "No prognostic information was shown in the photograph"
    elif _has_interval(within):
        text += f" Within strata the photograph has {number(within)}"
        if clinical.get(names.STRATIFIED_C):
            text += f", the clinical variables {clinical[names.STRATIFIED_C]['estimate']:.3f}"
        text += "."
        if _lost(c, within) > LOST:
            title += ", but far less so within strata"
    yield Finding("found", "plain", title, text)


def _lost(whole: Number, within: Number) -> float:
    """Share of C − .5 that is gone when like is compared with like."""
    return float((whole["estimate"] - within["estimate"]) / (whole["estimate"] - 0.5))


def _added(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    test = metrics.get("added_value")
    differences = metrics.get("comparisons", {}).get(names.difference(names.BOTH, names.CLINICAL), {})
    name = (
        names.STRATIFIED_C if names.STRATIFIED_C in differences else names.UNO_C
    )  # the era is no added value
    delta, what = differences.get(name), {names.UNO_C: "Uno's C", names.STRATIFIED_C: "C within strata"}[name]
    if not test:
        if _has_interval(delta):
            shown = "does" if delta["low"] > 0 else "was not shown to"
            yield Finding(
                "found", "plain", f"The photograph {shown} add to the clinical variables",
                f"Difference of {what}, with the photograph minus without it: {number(delta)}.",
            )  # fmt: skip
        return
    beside = "beside the clinical variables" if names.CLINICAL in metrics["models"] else "alone"
    text = (
        f"Permutation test p = {test['p']:.3f} ({test['n_permutations']} reruns of the whole analysis); hazard "
        f"ratio {number(test['hazard_ratio_per_sd'], 2)} per standard deviation of the score, {beside}."
    )
    if _has_interval(delta):
        text += f" It changes {what} by {number(delta)}."
    if test["p"] <= TESTED:
        yield Finding("found", "plain", f"It carries information {beside}", text)
    else:
        yield Finding("found", "plain", f"It was not shown to carry information {beside}", text)


def _recognition(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """Do the latents tell more than any face-recognition system would?"""
    difference = metrics.get("comparisons", {}).get(names.difference(names.PHOTO, names.FACE_RECOGNITION), {})
    name = names.STRATIFIED_C if names.STRATIFIED_C in difference else names.UNO_C
    value = difference.get(name)
    if not _has_interval(value):
        return
    where = "within strata" if name == names.STRATIFIED_C else "Uno's"
    text = f"Difference of C, {where}, photograph less embedding: {number(value)}."
    if value["low"] > 0:
        yield Finding("found", "plain", "It tells more than a face-recognition embedding", text)
    elif value["high"] < 0:
        yield Finding("found", "plain", "It tells less than a face-recognition embedding", text)
    else:
        yield Finding(
            "found", "plain", "It was not shown to tell more than a face-recognition embedding", text
        )


def _tried(tried: int | None) -> Iterator[Finding]:
    if tried is not None and tried > 1:
        text = (
            f"{tried} configurations were tried on these data; the best of several looks better than it is."
        )
        yield Finding("sure", "caution", "One of several analyses", text)


def _censored(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """Does Uno's C depend on the model of the censoring?"""
    found = {k: v for k, v in metrics.get("c_by_censoring", {}).items() if v.get("estimate") is not None}
    if "km" not in found:
        return
    base = found["km"]["estimate"]
    name, worst = max(found.items(), key=lambda item: abs(item[1]["estimate"] - base))
    if abs(worst["estimate"] - base) > CENSORING:
        how = {"stratified": "within the strata", "cox": "from the year"}[name]
        text = (
            f"Uno's C of the photograph is {worst['estimate']:.3f} with the censoring modelled {how}, and {base:.3f} "
            "with one curve for all. The latter is wrong where the photograph betrays how long a patient was followed."
        )
        yield Finding(
            "confounds", "caution", "The length of follow-up depends on what the photograph shows", text
        )


def _permuted(controls: Mapping[str, Any]) -> Iterator[Finding]:
    result = controls.get("permuted_outcome")
    if not result:
        return
    text = f"With the outcomes of other patients the mean C is {result['mean']:.3f} ({result['n']} times)."
    # the mean of n permutations has a standard error of its own
    slack = max(PERMUTED, 3 * result.get("sd", 0.0) / max(1, result["n"]) ** 0.5)
    if abs(result["mean"] - 0.5) > slack:
        yield Finding("sure", "alarm", "The analysis finds signal where there is none", text)
    else:
        yield Finding("sure", "good", "Permuted outcomes give chance", text)


def _events(flow: Mapping[str, Any]) -> Iterator[Finding]:
    if flow["events"] < FEW_EVENTS:
        text = f"{flow['events']} patients had the event; intervals are wide and calibration is uncertain."
        yield Finding("sure", "caution", "Few events", text)


def _beyond_follow_up(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Horizons that were asked for and that the follow-up does not reach."""
    missing = settings.get("not_followed", {})
    if missing:
        text = " ".join(f"At {t}: {why}." for t, why in missing.items())
        yield Finding(
            "sure", "caution", f"Nothing can be said at {_and(list(missing))}: follow-up ends before", text
        )


def _and(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _calibrated(models: Mapping[str, Any]) -> Iterator[Finding]:
    name = names.BOTH if names.BOTH in models else names.PHOTO
    oe, slope = (models.get(name, {}).get(k) for k in (names.OE, names.SLOPE))
    if not (_has_interval(oe) and _has_interval(slope)):
        return
    text = f"Observed over expected {number(oe, 2)}, slope {number(slope, 2)} (model: {name}; 1 is ideal)."
    good = all(v["low"] <= 1 <= v["high"] for v in (oe, slope))
    title = "Predicted probabilities fit on average" if good else "Predicted probabilities are off"
    yield Finding("sure", "good" if good else "caution", title, text)


def _covariates(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Clinical variables that know the future, or are not what they say."""
    alone, event = audit.get("alone", {}), audit.get("knows_event", {})
    knows = {k: f"C {c:.3f} by itself" for k, c in alone.items() if abs(c - 0.5) > KNOWS}
    knows |= {k: f"correlation {r:.2f} with having the event" for k, r in event.items() if r >= KNOWS_EVENT}
    if knows:
        text = (
            f"{_and([f'{k}: {how}' for k, how in knows.items()])}. What is known only when the follow-up has run makes "
            "the clinical baseline look better than it is, and the photograph worthless."
        )
        yield Finding("confounds", "alarm", f"{_and(list(knows))} may know the future", text)
    for s in audit.get("sentinels", []):
        text = (
            f"{s['patients']} patients have {s['value']:g}, all others between {s['low']:g} and {s['high']:g}. A code "
            "for missing values is taken for a measurement; leave these cells empty."
        )
        yield Finding("confounds", "alarm", f"{s['name']} holds a code for missing values", text)
    if later := [name for name in audit.get("named_later", []) if name not in knows]:
        text = "Only what is known at time zero may stand among the clinical variables."
        yield Finding("confounds", "caution", f"Is {_and(later)} known at time zero?", text)
    if gone := [m for m in audit.get("missing", []) if m["p"] < TESTED and m["name"] not in knows]:
        each = [f"{m['name']} ({m['patients']} patients without a value, p {m['p']:.3f})" for m in gone]
        text = f"Patients without a value fare otherwise: {_and(each)}, log-rank tests adjusted after Holm."
        yield Finding("confounds", "caution", "It goes with the outcome whether a value is missing", text)
    for name, levels in audit.get("spelt_twice", {}).items():
        text = f"{_and([repr(level) for level in levels])} count as different levels; write them in one way."
        yield Finding("confounds", "caution", f"Levels of {name} are spelt in several ways", text)


def _unchecked(circumstances: Mapping[str, Any]) -> Iterator[Finding]:
    """What could not be looked for."""
    missing = circumstances.get("unchecked", [])
    if not missing:
        return
    listed = f"{', '.join(missing[:-1])} or {missing[-1]}" if len(missing) > 1 else missing[0]
    was = "these were" if len(missing) > 1 else "this was"
    text = (
        f"Where {_and(list(missing))} of the photographs go with the outcome, they pass for prognosis. Add the "
        "columns, or say which ones they are: --nuisance."
    )
    if tried := circumstances.get("tried"):
        text += f" Tried as sites: {_and(list(tried))}."
    level: Level = "caution" if len(missing) == ROLES else "plain"
    yield Finding("confounds", level, f"No {listed} column was given: {was} not checked", text)


def _the(name: str) -> str:
    return NAMES.get(name, f"the {name.replace('_', ' ')}")


def _within(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """C within strata, site, era …: what remains when like is compared with like."""
    models = metrics["models"]
    photo = models.get(names.PHOTO, {})
    whole = photo.get(names.HARRELL_C)
    if not _has_interval(whole) or whole["estimate"] <= 0.5:
        return
    strata = photo.get(names.STRATIFIED_C)
    read = metrics.get("controls", {}).get("from_latents", {})
    tried = (metrics.get("circumstances") or {}).get("tried", [])
    hidden = [
        name for name in tried if not (name in read and _is_told(read[name]))
    ]  # no way to the photograph
    levels = {"strata": strata, **{k: v for k, v in metrics.get("c_within", {}).items() if k not in hidden}}
    if strata:  # a column that is the strata says nothing new
        same = [k for k, v in levels.items() if k != "strata" and _equal(v, strata)]
        levels = {k: v for k, v in levels.items() if k not in same}
    for name, value in levels.items():
        if not _has_interval(value):
            continue
        lost = _lost(whole, value)
        what = _the(name)
        text = (
            f"Compared only within {'the same stratum' if name == 'strata' else _same(name)}, the photograph's C is "
            f"{number(value)} instead of {whole['estimate']:.3f}."
        )
        if lost > LOST and whole["low"] > 0.5:
            clinical = models.get(names.CLINICAL, {}).get(names.STRATIFIED_C) if name == "strata" else None
            if clinical:
                text += f" The clinical variables keep {clinical['estimate']:.3f}."
            share = "All" if lost >= 1 else f"{lost:.0%}"
            title = f"{share} of what it gains over chance comes from telling {what} apart"
            yield Finding("confounds", "alarm", title, text)
        elif name == "strata":
            yield Finding("confounds", "good", "It holds within the strata", text)


def _equal(a: Number, b: Number) -> bool:
    return all(v.get("estimate") is not None for v in (a, b)) and abs(a["estimate"] - b["estimate"]) < 1e-6


def _same(name: str) -> str:
    """ "five years of the year of entry", "the same site"."""
    return f"the same {_the(name).removeprefix('the ')}"


def _without_face(models: Mapping[str, Any]) -> Iterator[Finding]:
    photo = models.get(names.PHOTO, {}).get(names.HARRELL_C)
    pictures = {
        names.BACKGROUND: "the background alone",
        names.NO_FACE: "the picture with the face masked out",
        names.NUISANCE: "light, colour, sharpness, pose, site and year",
    }
    worst: tuple[float, str, Number] | None = None
    for name, what in pictures.items():
        c = models.get(name, {}).get(names.HARRELL_C)
        if _has_interval(c) and c["low"] > 0.5 and (worst is None or c["estimate"] > worst[0]):
            worst = (c["estimate"], what, c)
    if worst is None:
        if any(name in models for name in pictures):
            text = "Background, masked picture and camera predict no better than chance."
            yield Finding("confounds", "good", "Nothing but the face tells the outcome", text)
        return
    text = f"From {worst[1]}, C is {number(worst[2])}."
    if photo and worst[0] - 0.5 >= NUISANCE_SHARE * (photo["estimate"] - 0.5):
        yield Finding("confounds", "alarm", "The outcome can be told without the face", text)
    else:
        yield Finding("confounds", "caution", "Some of it can be told without the face", text)


def _is_told(value: Number) -> bool:
    return bool(value["estimate"] >= (BETRAYED_AUC if value["measure"] == "auc" else BETRAYED_R2))


def _betrayed(controls: Mapping[str, Any]) -> Iterator[Finding]:
    told, numbers = [], []
    for name, value in controls.get("from_latents", {}).items():
        if _is_told(value):
            kind = "AUC" if value["measure"] == "auc" else "R²"
            told.append(_the(name))
            numbers.append(f"{kind} {value['estimate']:.2f}")
    if told:
        text = f"{', '.join(numbers)}, out of fold. Whatever else differs by it can pass for prognosis."
        yield Finding("confounds", "caution", f"The latents betray {' and '.join(told)}", text)


def _duplicates(controls: Mapping[str, Any]) -> Iterator[Finding]:
    pairs = controls.get("duplicates")
    if not pairs:
        return
    some = "; ".join(f"{p['patient_a']} and {p['patient_b']}" for p in pairs[:3])
    many = f"{len(pairs)} pairs of patients have" if len(pairs) > 1 else "Two patients have"
    text = f"{many} the same picture ({some}{'; …' if len(pairs) > 3 else ''})."
    yield Finding("confounds", "alarm", "Duplicated photographs across patients", text)


def _seen(provenance: Exposure | None, inside: Mapping[str, Any]) -> Iterator[Finding]:
    if provenance is None or not provenance.text:
        return
    text = provenance.text
    if all(_has_interval(inside.get(k)) for k in ("inside", "outside")):
        text += (
            f" C of the photograph inside {number(inside['inside'])}, outside {number(inside['outside'])}."
        )
    if provenance.seen:
        yield Finding("confounds", "alarm", "The networks had seen patients of this study", text)
    elif provenance.leak:
        yield Finding("confounds", "caution", "It is not known whom the networks had seen", text)
    else:
        yield Finding("confounds", "good", "The networks had not seen these patients", text)


def _late(flow: Mapping[str, Any]) -> Iterator[Finding]:
    late = flow.get("late_photos", 0)
    if late:
        text = (
            f"{late} patients were photographed after time zero. They count from the photograph on (left truncation): "
            "a photograph taken years later would otherwise guarantee those years."
        )
        yield Finding("confounds", "caution", "Photographs dated after the origin", text)


def _unstable(controls: Mapping[str, Any]) -> Iterator[Finding]:
    icc = controls.get("repeat_photo_icc")
    if icc and icc["icc"] < UNSTABLE_ICC:
        text = f"Intraclass correlation {icc['icc']:.2f} over {icc['subjects']} patients with several photographs."
        yield Finding("sure", "caution", "Two photographs of a patient give different risks", text)
    moved = {name: v["moved"] for name, v in controls.get("edits", {}).items() if v["moved"] > MOVED}
    if moved:
        worst = max(moved, key=moved.__getitem__)
        text = (
            f"Most by this edit: {worst}, {moved[worst]:.2f} standard deviations of the risk on average. The distance "
            "between two patients is about 1."
        )
        yield Finding("sure", "caution", "The risk moves when only the picture changes, not the face", text)
    reconstruction = controls.get("reconstruction")
    if reconstruction and reconstruction["icc"] < UNSTABLE_ICC:
        text = (
            f"Drawn from its latent and embedded again, a photograph keeps its risk with an ICC of "
            f"{reconstruction['icc']:.2f} only: part of the score is nothing that one can see."
        )
        yield Finding("sure", "caution", "The risk does not survive a reconstruction", text)
