"""Illness that the generator has never drawn: how much of painted signs comes back, and how much the picture holds.

``python -m benchmarks.signs [--json] [--full] [--train]``. Patients carry seven signs, of which three mean nothing;
their photographs are embedded, and a ridge Cox model is cross-validated on the latents. Beside every way stand the
oracle (the weighted doses themselves), the doses through the same folds and ridge, and an observer: a small network
trained on fresh painted photographs *with* their doses, a lower bound of what the pictures hold at this resolution.

``--train`` trains the observer (and keeps it); without, the stored one is used. ``--full``: ten cohorts of 1,000.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import stylegan_surv as ss
from benchmarks.sign_instruments import INSTRUMENTS, measure
from benchmarks.sign_observer import Observer, fit_observer, read_doses
from cuda_ops import tune_allocator
from stylegan_surv._types import Floats, Ints, Pixels
from stylegan_surv.attribute.pattern import adjusted_pattern
from stylegan_surv.cohort import Cohort
from stylegan_surv.faces import Chips, photograph
from stylegan_surv.gan import Generator
from stylegan_surv.gan.grading.memorisation import identity_vectors
from stylegan_surv.inversion import Latents
from stylegan_surv.inversion.settings import Method
from stylegan_surv.simulate import Truth, simulate_cohort
from stylegan_surv.simulate.apparent import sex_score
from stylegan_surv.simulate.patients import draw_doses
from stylegan_surv.simulate.pictures import drawn_faces, painted_faces
from stylegan_surv.simulate.population import sample_w
from stylegan_surv.survival import CoxRidge, concordance, nested_cv
from stylegan_surv.survival.outcome import Outcome

# Fixed before any way of embedding was measured.
WEIGHTS: Mapping[str, float] = {
    "pallor": 1.0, "wasting": 1.0, "shadow": 0.7, "jaundice": 0.7, "oedema": 0.0, "droop": 0.0, "brows": 0.0,
}  # fmt: skip
CAMERA, TRUNCATION = 1.0, 1.0
COHORTS, COHORTS_FULL = (100,), tuple(range(100, 110))
PATIENTS, PATIENTS_FULL = 300, 1000
OBSERVER_SEED, OBSERVER_TEST_SEED, SHAM_SEED, CALIBRATION_SEED, FACES_SEED = 7001, 7002, 7003, 7004, 7005
OBSERVER_N, TEST_N, SHAM_N = 3000, 400, 800
LEAST_R2 = 0.5  # of the observer: a sign below is not readable at this resolution
CALIBRATED, EDITED = 40, 40  # faces
TRUE_INSTRUMENT = 0.9  # correlation with known changes from which an instrument counts
SPREAD = (-1.0, 1.0)  # steps of the attribute between which signs are measured

WAYS: Mapping[str, Method] = {"encoder": "encoder", "default": "hybrid"}
# The documented way of embedding patients with signs; no way that was tried so far is ahead of the encoder.
RECIPE = "encoder"
STORED = Path(__file__).parent / "results" / "signs" / "observer.safetensors"
NAMES = sorted(WEIGHTS)


def photographs(generator: Generator, n: int, seed: int, *, sham: bool = False) -> tuple[Pixels, Floats]:
    """Photographs [n, side, side, 3] of faces that carry every sign, and their doses [n, signs]."""
    w = sample_w(generator, n, seed, TRUNCATION).astype(np.float64)
    doses = draw_doses(WEIGHTS, n, np.random.default_rng([seed, 3]))
    painted = painted_faces(drawn_faces(generator, w), doses, seed, sham=sham)
    shots = [photograph(face, seed=seed, index=i, strength=CAMERA) for i, face in enumerate(painted)]
    return np.stack(shots), np.stack([doses[name] for name in NAMES], axis=1)


def painter_sha256() -> str:
    """Of the painter and the camera, as they stand in the sources: whose signs an observer has learnt."""
    root = Path(ss.__file__).parent
    digest = hashlib.sha256()
    for path in [
        *sorted((root / "signs").glob("*.py")),
        root / "simulate/pictures.py",
        root / "faces/camera.py",
    ]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def r_squared(found: Floats, doses: Floats) -> Floats:
    """Share of the variance of every sign's doses that is read, negative where reading does harm."""
    error: Floats = ((found - doses) ** 2).sum(axis=0) / ((doses - doses.mean(axis=0)) ** 2).sum(axis=0)
    return 1 - error


def train_observer(generator: Generator, n: int, seed: int) -> tuple[Observer, dict[str, float]]:
    """An observer, stored with what it reads of fresh photographs and the hash of the painter."""
    observer = fit_observer(*photographs(generator, n, OBSERVER_SEED), seed=seed)
    pictures, doses = photographs(generator, TEST_N, OBSERVER_TEST_SEED)
    read = dict(zip(NAMES, map(float, r_squared(read_doses(observer, pictures), doses))))
    facts = {"r2": read, "n": n, "seed": seed, "painter_sha256": painter_sha256(), "signs": NAMES}
    STORED.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.numpy().astype(np.float16) for name, tensor in observer.state_dict().items()}
    save_file(state, STORED, metadata={"card": json.dumps(facts)})
    return observer, read


def stored_observer() -> tuple[Observer, dict[str, float]]:
    """The observer that is kept, and what it read of fresh photographs; refused if the painter has changed since."""
    if not STORED.exists():
        raise click.UsageError(f"{STORED} is missing: train the observer first, with --train")
    with safe_open(STORED, "pt") as file:
        facts = json.loads(file.metadata()["card"])
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    if facts["painter_sha256"] != painter_sha256():
        raise click.UsageError("painter or camera have changed since the observer was trained: run --train")
    observer = Observer(len(facts["signs"]))
    observer.load_state_dict(state)
    return observer.eval(), facts["r2"]


def cross_validated(x: Floats, outcome: Outcome, seed: int) -> tuple[Floats, Ints]:
    """Out-of-fold risks of a ridge Cox model, centred within their folds, and the folds."""
    oof = nested_cv("cox-ridge", x.astype(np.float32), outcome).model("photo")
    oof = oof.set_index("patient_id").loc[list(outcome.patient_id)]
    centred = oof["risk"] - oof.groupby("fold")["risk"].transform("mean")
    return centred.to_numpy(), oof["fold"].to_numpy()


def judged(x: Floats, outcome: Outcome, truth: Truth, seed: int) -> dict[str, float]:
    """C within folds, and the correlation with the true score."""
    risk, fold = cross_validated(x, outcome, seed)
    c = concordance(outcome.time, outcome.event, risk, strata=fold).estimate
    return {"c": float(c), "r": float(np.corrcoef(risk, truth.photo_log_hazard)[0, 1])}


def one_cohort(
    generator: Generator, observer: Observer, seed: int, n: int, folder: Path
) -> tuple[dict[str, dict[str, float]], Cohort, Latents]:
    """Every way and yardstick on one cohort; the cohort and its latents by the encoder."""
    cohort, truth = simulate_cohort(generator, n, seed, out=folder, signs=WEIGHTS, camera=CAMERA)
    outcome = Outcome.from_frame(cohort.patients)
    chips = Chips.open(folder / "chips")
    pictures = np.stack([chips.load(f"S{i:05d}") for i in range(n)])
    doses = np.stack([truth.doses[name] for name in NAMES], axis=1)
    read = read_doses(observer, pictures)
    ideal = read @ np.array([truth.weights[name] for name in NAMES])
    ideal_c = concordance(outcome.time, outcome.event, ideal).estimate
    table = {
        "oracle": {"c": truth.oracle_c, "r": 1.0},
        "doses": judged(doses, outcome, truth, seed),
        "observer": {"c": float(ideal_c), "r": float(np.corrcoef(ideal, truth.photo_log_hazard)[0, 1])},
    }
    kept: dict[str, Latents] = {}
    for way, method in WAYS.items():
        kept[way] = ss.embed(chips, cohort=cohort, generator=generator, method=method)
        table[way] = judged(kept[way].w_plus.reshape(n, -1), outcome, truth, seed)
    table["pixels"] = judged(pictures.reshape(n, -1) / 255.0, outcome, truth, seed)
    table["recipe"] = table[RECIPE]
    return table, cohort, kept[RECIPE]


def calibration(generator: Generator) -> dict[str, dict[str, float]]:
    """What every instrument is worth: its slope per dose of its own sign alone, and its correlation with it."""
    w = sample_w(generator, CALIBRATED, CALIBRATION_SEED, TRUNCATION).astype(np.float64)
    faces = list(drawn_faces(generator, w))
    dose = np.random.default_rng(CALIBRATION_SEED).standard_normal(CALIBRATED)
    plain = measure(np.stack(list(painted_faces(iter(faces), {"pallor": 0 * dose}, CALIBRATION_SEED))))
    found = {}
    for name in INSTRUMENTS:
        painted = np.stack(list(painted_faces(iter(faces), {name: dose}, CALIBRATION_SEED)))
        change = measure(painted)[name] - plain[name]
        found[name] = {
            "slope": float(np.polyfit(dose, change, 1)[0]),
            "r": float(np.corrcoef(dose, change)[0, 1]),
        }
    return found


def along_the_attribute(
    generator: Generator, cohort: Cohort, latents: Latents, slopes: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, float | None], dict[str, float]]:
    """What a step of the adjusted attribute changes: doses of every sign, and what should stay, in SD of faces."""
    n = len(cohort.patients)
    x = latents.w_plus.reshape(n, -1).astype(np.float64)
    outcome = Outcome.from_frame(cohort.patients)
    risk = CoxRidge(cv=5).fit(x, outcome.y).predict(x)
    given = np.stack([cohort.patients["age"], cohort.patients["sex"] == "M"], axis=1).astype(float)
    direction = adjusted_pattern(x, risk, given).reshape(latents.w_plus.shape[1:])
    faces = latents.w_plus[:EDITED].astype(np.float64)
    ends = [_drawn(generator, faces + step * direction) for step in SPREAD]
    low, high = (measure(pictures) for pictures in ends)
    steps: dict[str, float | None] = {}
    for name in NAMES:
        known = slopes.get(name)
        counts = known is not None and known["r"] >= TRUE_INSTRUMENT
        steps[name] = (
            float((high[name] - low[name]).mean() / 2 / known["slope"]) if known and counts else None
        )
    beside = {k: float((high[k] - low[k]).mean() / 2 / low[k].std()) for k in ("skin_tone", "background")}
    sex = sex_score(generator, latents.w_plus.mean(axis=1).astype(np.float64))
    vectors = [identity_vectors(torch.from_numpy(end).movedim(-1, 1).float() / 127.5 - 1) for end in ends]
    beside["identity"] = float(np.linalg.norm(vectors[1] - vectors[0], axis=1).mean() / 2)
    if sex is not None:
        moved = sex_score(generator, direction.mean(axis=0)[None] + latents.w_plus[:1].mean(axis=1))
        assert moved is not None
        beside["sex"] = float((moved[0] - sex[0]) / sex.std())
    return steps, beside


def _drawn(generator: Generator, w_plus: Floats) -> Pixels:
    from stylegan_surv._images import to_pixels

    with torch.no_grad():
        return to_pixels(generator.synthesis(torch.from_numpy(w_plus).float()))


def sham_r2(generator: Generator) -> dict[str, float]:
    """What an observer reads of signs that were painted and taken off again: trained on half, asked of the rest."""
    pictures, doses = photographs(generator, SHAM_N, SHAM_SEED, sham=True)
    half = SHAM_N // 2
    observer = fit_observer(pictures[:half], doses[:half], seed=0)
    found = read_doses(observer, pictures[half:])
    r2 = [max(np.corrcoef(a, b)[0, 1], 0.0) ** 2 for a, b in zip(found.T, doses[half:].T)]
    return dict(zip(NAMES, map(float, r2)))


def summary(tables: list[dict[str, dict[str, float]]], read: Mapping[str, float]) -> dict[str, Any]:
    """Means over cohorts, and the shares of the oracle's and the observer's C − 0.5."""
    mean = {
        way: {key: float(np.mean([table[way][key] for table in tables])) for key in ("c", "r")}
        for way in tables[0]
    }
    excess = {way: row["c"] - 0.5 for way, row in mean.items()}
    ways = [way for way in mean if way not in ("oracle", "observer")]
    return {
        "cohorts": len(tables),
        "ways": mean,
        "recovered": {way: excess[way] / excess["oracle"] for way in [*ways, "observer"]},
        "of_observer": {way: excess[way] / excess["observer"] for way in ways},
        "sign_r2": dict(read),
        "readable": {name: value >= LEAST_R2 for name, value in read.items()},
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--full", is_flag=True, help="Ten cohorts of 1,000 patients, and the sham arm.")
@click.option("--train", is_flag=True, help="Train the observer anew, and keep it.")
@click.option("--n", type=int, help="Patients of a cohort.")
def main(as_json: bool, full: bool, train: bool, n: int | None) -> None:
    """How much of painted signs comes back."""
    tune_allocator()
    generator = ss.load_generator("synthetic-64")
    observer, read = train_observer(generator, OBSERVER_N, 0) if train else stored_observer()
    tables = []
    first: tuple[Cohort, Latents] | None = None
    for seed in COHORTS_FULL if full else COHORTS:
        with tempfile.TemporaryDirectory() as folder:
            patients = n or (PATIENTS_FULL if full else PATIENTS)
            table, cohort, latents = one_cohort(generator, observer, seed, patients, Path(folder))
        tables.append(table)
        first = first or (cohort, latents)
    found = summary(tables, read)
    if first:
        found["instruments"] = calibration(generator)
        found["step"], found["unchanged"] = along_the_attribute(generator, *first, found["instruments"])
    length = float(np.sqrt(sum(weight**2 for weight in WEIGHTS.values())))
    found["expected_step"] = {name: weight / length for name, weight in WEIGHTS.items()}
    if full:
        found["sham_r2"] = sham_r2(generator)
    parts = ("recovered", "of_observer", "sign_r2", "step", "unchanged")
    found["ratio"] = {f"{part}.{name}": value for part in parts for name, value in found[part].items()}
    click.echo(json.dumps(found) if as_json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
