"""What an edit does when it is looked at again: edited pictures are embedded and scored anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stylegan_surv._types import Floats
from stylegan_surv.attribute.edit import moved
from stylegan_surv.attribute.pattern import Attribute, Kind
from stylegan_surv.errors import InputError
from stylegan_surv.gan import LPIPS, Encoder, Generator


@dataclass(frozen=True)
class DoseResponse:
    """Risk and change of the picture by step of the edit.

    Attributes
    ----------
    steps : array of float, shape (k,)
    risk : array of float, shape (n, k)
        Of the pictures, embedded again, in SD of the cohort's risk relative to step 0.
    lpips : array of float, shape (n, k)
        Distance to the picture of step 0.
    """

    steps: Floats
    risk: Floats
    lpips: Floats

    @property
    def slope(self) -> float:
        """Least-squares slope of mean risk on steps; 1 would be: the edit does all it says."""
        return float(np.polyfit(self.steps, self.risk.mean(axis=0), 1)[0])


def dose_response(
    attribute: Attribute,
    model: Any,
    w_plus: Floats,
    generator: Generator,
    encoder: Encoder,
    *,
    steps: Sequence[float] = (-2, -1, 0, 1, 2),
    kind: Kind = "pattern",
) -> DoseResponse:
    """Edit latents, draw them, embed the pictures again, and score those.

    The model's risk along the latent edit is a straight line by construction; this asks whether the *picture* carries
    it, and how much of the face changes on the way.

    Parameters
    ----------
    attribute : HealthAttribute
    model : estimator
        With ``predict(X)``, X of shape (n, num_ws·w_dim).
    w_plus : array of float, shape (n, num_ws, w_dim)
    generator : Generator
    encoder : Encoder
    steps : sequence of float
        In SD of risk; 0 is among them.
    kind : {"pattern", "coefficient", "adjusted"}

    Raises
    ------
    InputError
        If the steps lack 0.
    """
    if 0 not in steps:
        raise InputError(f"the steps are {list(steps)}; expected 0 among them, to compare with")
    lpips = LPIPS()
    at_zero = list(steps).index(0)
    risks, distances = [], []
    with torch.no_grad():
        for row in torch.as_tensor(np.asarray(w_plus), dtype=torch.float32):
            images = generator.synthesis(moved(attribute, row, steps, kind)).clamp(-1, 1)
            again = encoder(images)[:, : len(attribute.direction(kind))].flatten(1).double().numpy()
            risk = np.asarray(model.predict(again))
            risks.append((risk - risk[at_zero]) / attribute.risk_sd)
            distances.append(lpips(images, images[at_zero : at_zero + 1].expand_as(images)).numpy())
    return DoseResponse(np.asarray(steps, dtype=float), np.array(risks), np.array(distances))
