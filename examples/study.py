"""From simulated photographs to a report and an edit strip, in Python."""

from pathlib import Path
from tempfile import mkdtemp

import stylegan_surv as ss
from stylegan_surv.attribute import strip
from stylegan_surv.faces import Chips

folder = Path(mkdtemp())
generator = ss.load_generator("synthetic-64")
cohort, truth = ss.simulate_cohort(generator, n=200, seed=1, out=folder)
chips = Chips.open(folder / "chips")

latents = ss.embed(chips, cohort=cohort, out=folder / "latents", method="encoder")
settings = ss.StudySettings(repeats=1, permutations=19)
study = ss.evaluate(latents, cohort, ["cox-ridge"], ["age", "sex", "stage"], settings)
study.save(folder / "study")
print("photo C", study.metrics["models"]["photo"]["harrell_c"], "of", round(truth.oracle_c, 3))

model = ss.fit(latents, cohort, model="cox-ridge")
attribute = ss.health_attribute(model, latents, cohort, adjust_for=["age", "sex"])
steps = [-2, 0, 2]
pictures = attribute.edit(chips.path("S00000"), steps, aligned=True)
strip(pictures, steps).save(folder / "strip.png")
print("halves of the patients agree:", attribute.split_half)
print(folder)
