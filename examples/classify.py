"""Cases against controls by their faces, on simulated people: match, train, look at what else tells them apart."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
from PIL import Image

import stylegan_surv as ss
from stylegan_surv.classify.match import MatchSettings, match
from stylegan_surv.classify.page import render
from stylegan_surv.classify.people import read_people
from stylegan_surv.classify.study import StudySettings, classify
from stylegan_surv.classify.training import TrainSettings
from stylegan_surv.faces import photograph
from stylegan_surv.simulate import draw, sample_w

folder = Path(mkdtemp())
(folder / "photos").mkdir()
CASES, POOL = 16, 40
rng = np.random.default_rng(0)
at = (np.arange(160) + 0.5) / 160 - 0.55
skin = np.exp(-((at[None] + 0.05) ** 2 + at[:, None] ** 2) / 0.05)[..., None]  # the middle of the face
faces = draw(
    ss.load_generator("synthetic-64"), sample_w(ss.load_generator("synthetic-64"), CASES + POOL, 0, 0.8)
)
rows = []
for k, face in enumerate(faces):
    case = k < CASES
    shot = np.asarray(Image.fromarray(photograph(face, seed=0, index=k)).resize((160, 160)), float)
    if case:
        shot = shot + skin * [-30, 0, 20]  # a plain tint stands for illness
    picture = Image.fromarray(np.clip(shot, 0, 255).astype(np.uint8))
    # the clinic compresses its photographs more than whoever took the others
    picture.save(folder / "photos" / f"p{k:03d}.jpg", quality=60 if case else 90)
    rows.append((f"p{k:03d}", f"p{k:03d}.jpg", "case" if case else "control"))
table = pd.DataFrame(rows, columns=["patient_id", "photo", "group"])
table["age"] = rng.normal(60, 6, len(table)).round(1)
table["sex"] = rng.choice(["F", "M"], len(table))

people = read_people(table, folder / "photos")
matched = match(people, MatchSettings(calipers={"age": 8.0}, drop_unmatched=True))
for row in matched.balance:
    print(f"{row.name}: standardised difference {row.before:.2f} before, {row.after:.2f} after")

settings = StudySettings(folds=3, train=TrainSettings(epochs=1, seeds=1, copies=2), resamples=200)
found = classify(matched, folder / "study", settings)
for name, arm in found.arms.items():
    print(f"{name} ({arm.kind}): AUC {arm.auc.estimate:.2f} ({arm.auc.low:.2f}–{arm.auc.high:.2f})")
print(found.verdict.sentence)  # the file gives it away, and the study says so
print(render(folder / "study"))
