"""What the numbers say, in plain words: the first screen of the report.

Every sentence is a rule on numbers of ``metrics.json``; the thresholds stand here, and in `confounders`, by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stylegan_surv.report import confounders
from stylegan_surv.report.finding import LEVELS, TOPICS, Finding, has_interval, listed, number
from stylegan_surv.survival.metrics import names

if TYPE_CHECKING:
    from stylegan_surv.study.data import Exposure

ASSOCIATION = (
    "The health attribute is an association in this cohort. It is not a diagnosis, and it does not show what a "
    "treatment would change."
)
MOVED = 0.5  # mean change of the risk, in SD, that a change of the picture may make
UNSTABLE_ICC = 0.75  # below, reliability is moderate at best (Koo & Li 2016)
PERMUTED = 0.02  # how far from .5 the mean C of permuted outcomes may lie
FEW_EVENTS = 100  # below, an external validation is unreliable (Collins et al. 2016)
TESTED = 0.05
INTERACTS = (
    0.01  # an out-of-fold score is no covariate fixed beforehand, and its tests reject a little too often
)
ENOUGH = 19  # permutations with which p can reach .05
O_OVER_E, SLOPES = (0.8, 1.25), (0.7, 1.3)  # within these, whole intervals included, probabilities fit


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
        *_hazards(metrics.get("hazards") or {}),
        *_interactions(metrics.get("interactions") or {}),
        *confounders.covariates(metrics.get("covariates") or {}),
        *confounders.unchecked(metrics.get("circumstances") or {}),
        *confounders.within(metrics),
        *confounders.without_face(models),
        *confounders.betrayed(controls),
        *confounders.duplicates(controls),
        *confounders.seen(provenance, metrics.get("c_provenance") or {}),
        *confounders.late(flow),
        *_unstable(controls),
        *confounders.censored(metrics),
    ]
    found += [Finding("confounds", "caution", "Note on the data", flag) for flag in flags]
    return sorted(found, key=lambda f: (TOPICS.index(f.topic), LEVELS.index(f.level)))


def _photo(models: Mapping[str, Any], flow: Mapping[str, Any]) -> Iterator[Finding]:
    photo, clinical = models.get(names.PHOTO, {}), models.get(names.CLINICAL, {})
    c, within = photo.get(names.HARRELL_C), photo.get(names.STRATIFIED_C)
    if not has_interval(c):
        return
    text = f"C {number(c)}; 0.5 is chance. {flow['patients']:,} patients, {flow['events']:,} with the event."
    if clinical:
        text += f" The clinical variables reach {clinical[names.HARRELL_C]['estimate']:.3f}."
    title = "The photograph ranks patients by risk better than chance"
    if c["low"] <= 0.5:
        title = "No prognostic information was shown in the photograph"
    elif has_interval(within):
        text += f" Within strata the photograph has {number(within)}"
        if clinical.get(names.STRATIFIED_C):
            text += f", the clinical variables {clinical[names.STRATIFIED_C]['estimate']:.3f}"
        text += "."
        if confounders.lost(c, within) > confounders.LOST:
            title += ", but far less so within strata"
    yield Finding("found", "plain", title, text)


def _added(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    test = metrics.get("added_value")
    differences = metrics.get("comparisons", {}).get(names.difference(names.BOTH, names.CLINICAL), {})
    name = (
        names.STRATIFIED_C if names.STRATIFIED_C in differences else names.UNO_C
    )  # the era is no added value
    delta, what = differences.get(name), {names.UNO_C: "Uno's C", names.STRATIFIED_C: "C within strata"}[name]
    if not test:
        if has_interval(delta):
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
    if has_interval(delta):
        text += f" It changes {what} by {number(delta)}."
    if test["n_permutations"] < ENOUGH:
        least = 1 / (1 + test["n_permutations"])
        text += f" So few reruns cannot give a p below {least:.3f}; {ENOUGH} are needed for .05."
        yield Finding(
            "found", "plain", f"Too few permutations to test whether it carries information {beside}", text
        )
    elif test["p"] <= TESTED:
        yield Finding("found", "plain", f"It carries information {beside}", text)
    else:
        yield Finding("found", "plain", f"It was not shown to carry information {beside}", text)


def _recognition(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """Do the latents tell more than any face-recognition system would?"""
    difference = metrics.get("comparisons", {}).get(names.difference(names.PHOTO, names.FACE_RECOGNITION), {})
    name = names.STRATIFIED_C if names.STRATIFIED_C in difference else names.UNO_C
    value = difference.get(name)
    if not has_interval(value):
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
            "sure", "caution", f"Nothing can be said at {listed(list(missing))}: follow-up ends before", text
        )


def _calibrated(models: Mapping[str, Any]) -> Iterator[Finding]:
    name = names.BOTH if names.BOTH in models else names.PHOTO
    oe, slope = (models.get(name, {}).get(k) for k in (names.OE, names.SLOPE))
    if not (has_interval(oe) and has_interval(slope)):
        return
    text = f"Observed over expected {number(oe, 2)}, slope {number(slope, 2)} (model: {name}; 1 is ideal)."
    if not all(v["low"] <= 1 <= v["high"] for v in (oe, slope)):
        yield Finding("sure", "caution", "Predicted probabilities are off", text)
    elif all(a <= v["low"] and v["high"] <= b for v, (a, b) in ((oe, O_OVER_E), (slope, SLOPES))):
        yield Finding("sure", "good", "Predicted probabilities fit on average", text)
    else:
        yield Finding("sure", "plain", "It is not known whether predicted probabilities fit", text)


def _hazards(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Does the photograph tell the same late as early?"""
    if not found or (found["p"] >= TESTED and not found["crosses"]):
        return
    early, late = found["periods"]
    text = (
        f"Hazard ratio up to {early['end']:.3g}: {number(early['hazard_ratio'], 2)}, later "
        f"{number(late['hazard_ratio'], 2)}, per standard deviation of the score (Grambsch–Therneau p = "
        f"{found['p']:.3f}). Up to {found['until']:.3g} the third with the highest scores lives "
        f"{number(found['lost_time'], 2)} shorter on average than the third with the lowest."
    )
    if found["crosses"]:
        yield Finding(
            "sure", "alarm", "High scores die sooner at first and later in the end, or the reverse", text
        )
    elif late["hazard_ratio"]["low"] > 1:
        yield Finding("sure", "plain", "The photograph's hazard ratio changes over time", text)
    else:
        yield Finding("sure", "caution", "The photograph's hazard ratio changes over time", text)


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


def _interactions(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Groups in which the photograph tells more than in others."""
    for name, one in found.items():
        if one["p"] < INTERACTS:
            spread = ", ".join(f"{level} {sd:.2f}" for level, sd in one["sd"].items())
            text = (
                f"Interaction of the score with {name.replace('_', ' ')}, in a model stratified by it: p = "
                f"{one['p']:.3f} after Holm; C differs with p = {one['p_q']:.3f}. Spread of the score "
                f"(all patients 1): {spread}."
            )
            title = f"The photograph does not tell the same at all levels of {name.replace('_', ' ')}"
            yield Finding("sure", "caution", title, text)
