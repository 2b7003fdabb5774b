"""How good a generator is, and whether it copies its training photographs."""

from stylegan_surv.gan.grading.grids import grid_image, save_grid
from stylegan_surv.gan.grading.measures import (
    Estimate,
    Quality,
    Reconstruction,
    features,
    frechet_distance,
    kernel_distance,
    path_length,
    precision_recall,
    quality,
    reconstruct,
    sample,
)
from stylegan_surv.gan.grading.memorisation import (
    Guard,
    Memorisation,
    Nearest,
    identity_vectors,
    lpips_distances,
)

__all__ = [
    "Estimate",
    "Guard",
    "Memorisation",
    "Nearest",
    "Quality",
    "Reconstruction",
    "features",
    "frechet_distance",
    "grid_image",
    "identity_vectors",
    "kernel_distance",
    "lpips_distances",
    "path_length",
    "precision_recall",
    "quality",
    "reconstruct",
    "sample",
    "save_grid",
]
