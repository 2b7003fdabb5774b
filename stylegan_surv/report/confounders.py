"""What may explain the result instead of the face, in plain words: the third topic of the first screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stylegan_surv.report.finding import Finding, Level, Number, has_interval, listed, number
from stylegan_surv.survival.metrics import names

if TYPE_CHECKING:
    from stylegan_surv.study.data import Exposure

TESTED = 0.05
LOST = 0.25  # share of C − .5 that may disappear within strata before it is an alarm
BETRAYED_AUC, BETRAYED_R2 = 0.65, 0.15  # a column that the latents tell this well may carry the result
NUISANCE_SHARE = 0.5  # share of the photograph's C − .5 that pictures without a face may reach
CENSORING = 0.02  # how far Uno's C may depend on the model of the censoring
WIDER = 2.576 / 1.960  # of a 99 % interval against one of 95 %
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


def censored(metrics: Mapping[str, Any]) -> Iterator[Finding]:
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


def covariates(audit: Mapping[str, Any]) -> Iterator[Finding]:
    """Clinical variables that know the future, or are not what they say."""
    alone, event = audit.get("alone", {}), audit.get("knows_event", {})
    knows = {k: f"C {c:.3f} by itself" for k, c in alone.items() if abs(c - 0.5) > KNOWS}
    knows |= {k: f"correlation {r:.2f} with having the event" for k, r in event.items() if r >= KNOWS_EVENT}
    if knows:
        text = (
            f"{listed([f'{k}: {how}' for k, how in knows.items()])}. What is known only when the follow-up has run "
            "makes the clinical baseline look better than it is, and the photograph worthless."
        )
        yield Finding("confounds", "alarm", f"{listed(list(knows))} may know the future", text)
    for s in audit.get("sentinels", []):
        text = (
            f"{s['patients']} patients have {s['value']:g}, all others between {s['low']:g} and {s['high']:g}. A code "
            "for missing values is taken for a measurement; leave these cells empty."
        )
        yield Finding("confounds", "alarm", f"{s['name']} holds a code for missing values", text)
    if later := [name for name in audit.get("named_later", []) if name not in knows]:
        text = "Only what is known at time zero may stand among the clinical variables."
        yield Finding("confounds", "caution", f"Is {listed(later)} known at time zero?", text)
    if gone := [m for m in audit.get("missing", []) if m["p"] < TESTED and m["name"] not in knows]:
        each = [f"{m['name']} ({m['patients']} patients without a value, p {m['p']:.3f})" for m in gone]
        text = f"Patients without a value fare otherwise: {listed(each)}, log-rank tests adjusted after Holm."
        yield Finding("confounds", "caution", "It goes with the outcome whether a value is missing", text)
    for name, levels in audit.get("spelt_twice", {}).items():
        text = (
            f"{listed([repr(level) for level in levels])} count as different levels; write them in one way."
        )
        yield Finding("confounds", "caution", f"Levels of {name} are spelt in several ways", text)


def unchecked(circumstances: Mapping[str, Any]) -> Iterator[Finding]:
    """What could not be looked for."""
    missing = circumstances.get("unchecked", [])
    if not missing:
        return
    none_of = f"{', '.join(missing[:-1])} or {missing[-1]}" if len(missing) > 1 else missing[0]
    was = "these were" if len(missing) > 1 else "this was"
    text = (
        f"Where {listed(list(missing))} of the photographs go with the outcome, they pass for prognosis. Add the "
        "columns, or say which ones they are: --nuisance."
    )
    if tried := circumstances.get("tried"):
        text += f" Tried as sites: {listed(list(tried))}."
    level: Level = "caution" if len(missing) == ROLES else "plain"
    yield Finding("confounds", level, f"No {none_of} column was given: {was} not checked", text)


def _the(name: str) -> str:
    return NAMES.get(name, f"the {name.replace('_', ' ')}")


def within(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """C within strata, site, era …: what remains when like is compared with like."""
    models = metrics["models"]
    photo = models.get(names.PHOTO, {})
    whole = photo.get(names.HARRELL_C)
    if not has_interval(whole) or whole["estimate"] <= 0.5:
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
        if not has_interval(value):
            continue
        gone = lost(whole, value)
        what = _the(name)
        text = (
            f"Compared only within {'the same stratum' if name == 'strata' else _same(name)}, the photograph's C is "
            f"{number(value)} instead of {whole['estimate']:.3f}."
        )
        if gone > LOST and whole["low"] > 0.5:
            clinical = models.get(names.CLINICAL, {}).get(names.STRATIFIED_C) if name == "strata" else None
            if clinical:
                text += f" The clinical variables keep {clinical['estimate']:.3f}."
            share = "All" if gone >= 1 else f"{gone:.0%}"
            title = f"{share} of what it gains over chance comes from telling {what} apart"
            yield Finding("confounds", "alarm", title, text)
        elif name == "strata":
            yield Finding("confounds", "good", "It holds within the strata", text)


def lost(whole: Number, within: Number) -> float:
    """Share of C − .5 that is gone when like is compared with like."""
    return float((whole["estimate"] - within["estimate"]) / (whole["estimate"] - 0.5))


def _equal(a: Number, b: Number) -> bool:
    return all(v.get("estimate") is not None for v in (a, b)) and abs(a["estimate"] - b["estimate"]) < 1e-6


def _same(name: str) -> str:
    """ "five years of the year of entry", "the same site"."""
    return f"the same {_the(name).removeprefix('the ')}"


def _is_above_chance(c: Number) -> bool:
    """By its 99 % interval: three pictures are looked at, and what the models' training adds is in no interval."""
    return bool(c["estimate"] - WIDER * (c["estimate"] - c["low"]) > 0.5)


def without_face(models: Mapping[str, Any]) -> Iterator[Finding]:
    photo = models.get(names.PHOTO, {}).get(names.HARRELL_C)
    pictures = {
        names.BACKGROUND: "the background alone",
        names.NO_FACE: "the picture with the face masked out",
        names.NUISANCE: "light, colour, sharpness, pose, site and year",
    }
    worst: tuple[float, str, Number] | None = None
    for name, what in pictures.items():
        c = models.get(name, {}).get(names.HARRELL_C)
        if has_interval(c) and _is_above_chance(c) and (worst is None or c["estimate"] > worst[0]):
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


def betrayed(controls: Mapping[str, Any]) -> Iterator[Finding]:
    told, numbers = [], []
    for name, value in controls.get("from_latents", {}).items():
        if _is_told(value):
            kind = "AUC" if value["measure"] == "auc" else "R²"
            told.append(_the(name))
            numbers.append(f"{kind} {value['estimate']:.2f}")
    if told:
        text = f"{', '.join(numbers)}, out of fold. Whatever else differs by it can pass for prognosis."
        yield Finding("confounds", "caution", f"The latents betray {' and '.join(told)}", text)


def duplicates(controls: Mapping[str, Any]) -> Iterator[Finding]:
    pairs = controls.get("duplicates")
    if not pairs:
        return
    some = "; ".join(f"{p['patient_a']} and {p['patient_b']}" for p in pairs[:3])
    many = f"{len(pairs)} pairs of patients have" if len(pairs) > 1 else "Two patients have"
    text = f"{many} the same picture ({some}{'; …' if len(pairs) > 3 else ''})."
    yield Finding("confounds", "alarm", "Duplicated photographs across patients", text)


def seen(provenance: Exposure | None, inside: Mapping[str, Any]) -> Iterator[Finding]:
    if provenance is None or not provenance.text:
        return
    text = provenance.text
    if all(has_interval(inside.get(k)) for k in ("inside", "outside")):
        text += (
            f" C of the photograph inside {number(inside['inside'])}, outside {number(inside['outside'])}."
        )
    if provenance.seen:
        yield Finding("confounds", "alarm", "The networks had seen patients of this study", text)
    elif provenance.leak:
        yield Finding("confounds", "caution", "It is not known whom the networks had seen", text)
    else:
        yield Finding("confounds", "good", "The networks had not seen these patients", text)


def late(flow: Mapping[str, Any]) -> Iterator[Finding]:
    late = flow.get("late_photos", 0)
    if late:
        text = (
            f"{late} patients were photographed after time zero. They count from the photograph on (left truncation): "
            "a photograph taken years later would otherwise guarantee those years."
        )
        yield Finding("confounds", "caution", "Photographs dated after the origin", text)
