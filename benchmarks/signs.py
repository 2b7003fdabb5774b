"""Illness that the generator has never drawn: how much of painted signs comes back, and how much the picture holds.

``python -m benchmarks.signs [--json] [--full] [--work DIR]``. Patients carry seven signs, of which three mean nothing;
their photographs are embedded, and a ridge Cox model is cross-validated on the latents. Beside every figure stand the
oracle (the doses themselves), the doses through the same folds and ridge, and an observer: a small network that is trained
on fresh painted photographs *with* their doses, a lower bound of what the pictures hold at this resolution.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import stylegan_surv as ss
from cuda_ops import tune_allocator
from stylegan_surv._types import Floats, Pixels
from stylegan_surv.faces import Chips, photograph
from stylegan_surv.simulate.patients import draw_doses
from stylegan_surv.simulate.pictures import drawn_faces, painted_faces
from stylegan_surv.simulate.population import sample_w
from stylegan_surv.study import StudySettings

# Fixed before any way of embedding was measured.
WEIGHTS: Mapping[str, float] = {
    "pallor": 1.0, "wasting": 1.0, "shadow": 0.7, "jaundice": 0.7, "oedema": 0.0, "droop": 0.0, "brows": 0.0,
}  # fmt: skip
CAMERA, TRUNCATION = 1.0, 1.0
COHORTS, COHORTS_FULL = range(100, 101), range(100, 110)
PATIENTS, PATIENTS_FULL = 300, 1000
OBSERVER_SEED, OBSERVER_TEST_SEED, SHAM_SEED = 7001, 7002, 7003
OBSERVER_N, OBSERVER_FULL, TEST_N = 1500, 5000, 400
LEAST_R2 = 0.5  # of the observer: a sign below is not readable at this resolution
