"""Named directions of a generator's w that are something else than health: light, colour, background, pose, smile.

Each is found from pictures alone: samples of the generator are measured (`faces.quality`, dlib's landmarks), the
quantity is regressed on w, and the direction is the *pattern* of the fitted score, Cov(w)·b (Haufe et al. 2014), scaled
to one standard deviation of the score. How well it works is measured on fresh samples: how much of the quantity the
latent explains, and what one step really changes in the picture. A health attribute that points along one of them
deserves suspicion.

Glasses are not among them: nothing bundled recognises glasses, and a direction nobody can check is not worth a name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from stylegan_surv._images import to_pixels
from stylegan_surv._types import Floats
from stylegan_surv.attribute.pattern import cosine, pattern
from stylegan_surv.errors import InputError
from stylegan_surv.faces.detect import FaceFinder, NoFace
from stylegan_surv.faces.landmarks import MOUTH_LEFT, MOUTH_RIGHT, pose
from stylegan_surv.faces.quality import image_quality
from stylegan_surv.gan import Generator
from stylegan_surv.gan.formats.checkpoint import DATA

PHOTOGRAPHIC = ("brightness", "contrast", "background", "saturation", "warmth", "sharpness")
FACIAL = ("yaw", "smile")  # of landmarks; the smile is the width of the mouth over the distance of the eyes
PENALTIES = 10.0 ** np.arange(-4, 2.1)  # of the ridge regression, in units of the mean variance of w
ENLARGED = 256  # side at which landmarks are looked for; the detector needs faces of 80 px
BATCH = 50
CONSTANT = 1e-6  # a quantity that varies less does not depend on the latent
PREFIX, FACTS = "nuisance.", "nuisance"
SAME_CODES = {"synthetic-128": "synthetic-64"}  # a grown generator's codes are those of the one beneath


@dataclass(frozen=True)
class Nuisance:
    """A direction of w along which one measurable quantity changes.

    Attributes
    ----------
    name : str
        The quantity, see `faces.quality.image_quality`; ``yaw`` and ``smile`` are read off the landmarks.
    direction : array of float, shape (w_dim,)
        The expected change of w when the fitted score rises by one SD.
    r2 : float
        Share of the quantity's variance that the score explains on fresh samples.
    change : dict of str to float
        Mean change of every quantity, in SDs of samples, when fresh samples are moved by one step.
    """

    name: str
    direction: Floats
    r2: float
    change: dict[str, float] = field(default_factory=dict)


def find_nuisance(
    generator: Generator, *, n: int = 1200, fresh: int = 200, facial: bool = True, seed: int = 0
) -> list[Nuisance]:
    """Find the named directions of a generator, with how well each works.

    Parameters
    ----------
    generator : Generator
        An unconditional one of aligned faces.
    n, fresh : int
        Samples to find the directions, and to judge them.
    facial : bool
        Also those that need a face detector, which takes most of the time.
    seed : int
        Of the samples.

    Returns
    -------
    list of Nuisance
        In the order of ``PHOTOGRAPHIC`` and ``FACIAL``; without the latter if too few faces are found.
    """
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(n + fresh, generator.config.z_dim, generator=rng)
    with torch.no_grad():
        w = generator.mapping(z)[:, 0].numpy().astype(np.float64)
    values = measure(generator, w, facial)
    spread = {name: float(np.nanstd(v)) for name, v in values.items()}
    found = []
    for name, value in values.items():
        known = np.isfinite(value)
        into, judge = known & (np.arange(len(w)) < n), known & (np.arange(len(w)) >= n)
        if into.sum() < n / 2 or spread[name] < CONSTANT:
            continue
        mean, beta = ridge(w[into], value[into])
        score = (w - mean) @ beta + value[into].mean()
        residual = value[judge] - score[judge]
        direction = pattern(w[into], score[into])
        after = measure(generator, w[n:] + direction, facial)
        change = {
            k: float(np.nanmean(after[k] - v[n:])) / spread[k]
            for k, v in values.items()
            if spread[k] >= CONSTANT
        }
        found.append(Nuisance(name, direction, float(1 - residual.var() / value[judge].var()), change))
    return found


def measure(generator: Generator, w: Floats, facial: bool = True) -> dict[str, Floats]:
    """Every quantity [n] of the faces drawn from w [n, w_dim]; the facial ones are NaN where no face is found."""
    rows = []
    for part in torch.from_numpy(w).float().split(BATCH):
        with torch.no_grad():
            images = generator.synthesis(part[:, None].expand(-1, generator.config.num_ws, -1))
        for pixels in to_pixels(images):
            quality = image_quality(pixels)
            rows.append([float(quality[name]) for name in PHOTOGRAPHIC])
            if facial:
                rows[-1].extend(_facial(Image.fromarray(pixels)))
    return dict(zip(PHOTOGRAPHIC + FACIAL, np.array(rows).T))


def _facial(picture: Image.Image) -> tuple[float, float]:
    large = picture.resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC)
    try:
        points = _finder().find(large).landmarks
    except NoFace:
        return np.nan, np.nan
    attitude = pose(points)
    mouth = float(np.hypot(*(points[MOUTH_RIGHT] - points[MOUTH_LEFT])))
    return attitude.yaw, mouth / attitude.inter_eye_px


@cache
def _finder() -> FaceFinder:
    """One detector for all pictures; loading it costs more than using it."""
    return FaceFinder("hog")


def ridge(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Mean [p] of x [n, p] and coefficients [p] of a ridge regression, its penalty by generalised cross-validation."""
    mean = x.mean(axis=0)
    u, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    along = u.T @ (y - y.mean())
    rest = float(((y - y.mean()) ** 2).sum() - (along**2).sum())

    def criterion(penalty: float) -> float:
        left = penalty / (s**2 + penalty)
        return (float(((left * along) ** 2).sum()) + rest) / (len(y) - float((1 - left).sum())) ** 2

    best = min(PENALTIES * (s**2).mean(), key=criterion)
    beta: Floats = vt.T @ (along * s / (s**2 + best))
    return mean, beta


def beside_nuisance(
    x: Floats, risk: Floats, num_ws: int, known: list[Nuisance], *, permutations: int = 200, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Cosine of the pattern of a risk score with every nuisance direction, beside its null distribution.

    Parameters
    ----------
    x : array of float, shape (n, num_ws·w_dim)
        Latents; directions are compared in w, averaged over layers.
    risk : array of float, shape (n,)
        The score.
    num_ws : int
    known : list of Nuisance
    permutations : int
        Size of the null distribution: patterns of the same risks given to other patients.
    seed : int
        Of the permutations.

    Returns
    -------
    dict of str to dict
        By name: ``cosine``, and ``null_95``, the 95th percentile of its absolute value when risk and latent are
        unrelated. A few directions hold most of the variance of w, so that chance alone gives large cosines.
    """
    w = x.reshape(len(x), num_ws, -1).mean(axis=1)
    w = w - w.mean(axis=0)
    rng = np.random.default_rng(seed)
    scores = np.column_stack([risk, *(rng.permutation(risk) for _ in range(permutations))])
    patterns = w.T @ (scores - risk.mean())
    found = {}
    for direction in known:
        cosines = np.array([cosine(pattern_of, direction.direction) for pattern_of in patterns.T])
        found[direction.name] = {
            "cosine": float(cosines[0]),
            "null_95": float(np.quantile(np.abs(cosines[1:]), 0.95)),
        }
    return found


def pack(found: list[Nuisance]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata for a generator's statistics file."""
    tensors = {PREFIX + k.name: torch.from_numpy(k.direction).float() for k in found}
    facts = {k.name: {"r2": k.r2, "change": k.change} for k in found}
    return tensors, {FACTS: json.dumps(facts)}


def load_nuisance(name: str | Path) -> list[Nuisance]:
    """The directions in the statistics file of a bundled generator (a name), or in a file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = (
        Path(name) if Path(name).is_file() else DATA / f"{SAME_CODES.get(str(name), name)}.stats.safetensors"
    )
    if not path.is_file():
        raise InputError(
            f"there are no statistics of a generator {str(name)!r}: give a bundled name or a file"
        )
    with safe_open(path, "np") as file:
        facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
        return [Nuisance(k, file.get_tensor(PREFIX + k), v["r2"], v["change"]) for k, v in facts.items()]
