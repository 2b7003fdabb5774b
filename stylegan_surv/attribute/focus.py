"""Does a linear model look at the face?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylegan_surv._types import Floats
from stylegan_surv.attribute.pattern import linear_coefficients
from stylegan_surv.errors import InputError
from stylegan_surv.gan import Encoder


def focus(model: Any, images: Tensor, encoder: Encoder, mask: Floats) -> dict[str, float]:
    """Share of |∂risk/∂pixel| that falls inside the face mask.

    Parameters
    ----------
    model : estimator
        A linear risk model on raw latents.
    images : Tensor, shape (n, 3, R, R)
        In [−1, 1].
    encoder : Encoder
    mask : array of float, shape (R, R) or (n, R, R)
        In 0…1, 1 on the face; one for all pictures or one for each, such as
        ``chips.mask(photo_id, "face").weight``.

    Returns
    -------
    dict of str to float
        ``inside`` (share of the gradient's magnitude inside the mask), ``area`` (share of the picture that the mask
        covers) and ``ratio`` = inside / area; 1 would be no preference for the face.

    Raises
    ------
    InputError
        If the model is not linear.
    """
    beta = linear_coefficients(model, encoder.shape.num_ws * encoder.shape.w_dim)
    if beta is None:
        raise InputError("focus needs a linear model, such as cox-ridge")
    x = images.clone().requires_grad_(True)
    risk = encoder(x).flatten(1) @ torch.as_tensor(beta, dtype=torch.float32)
    (gradient,) = torch.autograd.grad(risk.sum(), x)
    magnitude = gradient.abs().sum(dim=1).numpy()
    mask = np.broadcast_to(mask, magnitude.shape)
    inside, area = float((magnitude * mask).sum() / magnitude.sum()), float(mask.mean())
    return {"inside": inside, "area": area, "ratio": inside / area}
