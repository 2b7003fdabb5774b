"""The apparent sex of a drawn face: what a stranger would write into the clinic's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open

from stylegan_surv._types import Bools, Floats
from stylegan_surv.gan.formats.checkpoint import DATA
from stylegan_surv.inversion.origin import network_sha256
from stylegan_surv.simulate.population import Plan

if TYPE_CHECKING:
    from stylegan_surv.gan import Generator

FILE = DATA / "synthetic-64.apparent-sex.safetensors"


def apparent_sex(generator: Generator, w: Floats, planted: Plan) -> Bools:
    """Whether drawn faces look male.

    Of the bundled generator a direction of w is known along which faces grow more or less male in the eyes of a face
    recogniser. Any other generator is given one by chance, not correlated with the planted hazard and age.

    Parameters
    ----------
    generator : Generator
    w : array of float, shape (n, w_dim)
    planted : Plan

    Returns
    -------
    array of bool, shape (n,)
    """
    score = sex_score(generator, w)
    return np.asarray((w - planted.mean) @ planted.other > 0 if score is None else score > 0)


def sex_score(generator: Generator, w: Floats) -> Floats | None:
    """How male drawn faces look, in log odds of a face recogniser's probe.

    Parameters
    ----------
    generator : Generator
    w : array of float, shape (n, w_dim)

    Returns
    -------
    array of float, shape (n,), or None
        Above 0 male; None for a generator whose direction of it is not known.
    """
    known = _direction(network_sha256(generator))
    if known is None:
        return None
    direction, offset = known
    return np.asarray(w @ direction + offset, dtype=float)


def _direction(sha256: str) -> tuple[Floats, float] | None:
    """The direction and offset of the generator with this hash, if it is the bundled one."""
    if not FILE.is_file():
        return None
    with safe_open(FILE, "np") as file:
        if (file.metadata() or {}).get("generator_sha256") != sha256:
            return None
        return file.get_tensor("direction").astype(np.float64), float(file.get_tensor("offset")[0])
