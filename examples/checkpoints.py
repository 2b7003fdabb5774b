"""Convert, inspect and judge a generator; no download, under a minute on one core."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import torch

import stylegan_surv as ss
from stylegan_surv.gan.formats import rosinality, zoo
from stylegan_surv.gan.formats.checkpoint import convert
from stylegan_surv.gan.formats.provenance import intersect, record
from stylegan_surv.gan.grading.measures import quality, reconstruct, sample
from stylegan_surv.gan.grading.memorisation import memorisation

torch.set_num_threads(1)

for entry in zoo.entries():
    print(f"{entry.name}: {entry.kind}, {entry.resolution} px, {entry.licence}, has seen {entry.seen}")

# a round trip through another layout keeps every bit
G = ss.load_generator("synthetic-64")
with tempfile.TemporaryDirectory() as folder:
    theirs, ours = Path(folder) / "theirs.pt", Path(folder) / "ours.safetensors"
    for note in rosinality.write(theirs, G):
        print("note:", note)
    made = convert(theirs, ours)
    again = ss.load_generator(ours)
    same = all(torch.equal(a, b) for a, b in zip(G.state_dict().values(), again.state_dict().values()))
    print(f"{made.config.resolution} px, licence {made.card['licence']}, bit for bit: {same}")

# stand-ins for photographs: samples of the generator itself
photos = sample(G, 100, seed=1)
train, held_out = photos[:60], photos[60:]
print(quality(G, train).as_card())
print("LPIPS of 4 reconstructions after 20 steps:", reconstruct(G, held_out[:4], steps=20).lpips)
print("copies?", memorisation(sample(G, 30, seed=2), train, held_out, identity=False).as_card())

# whom has it seen? A network fine-tuned on patients P-0 … P-59 would carry this card
chips = list(train.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy())
tuned = {"provenance": record(chips, [f"P-{i}" for i in range(60)], base=G.card)}
study = pd.DataFrame({"patient_id": ["P-7", "P-99"], "photo_id": ["a", "b"]})
print(intersect(study, tuned))
