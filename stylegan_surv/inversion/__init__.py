"""Photographs into W+: encoder, projector, and the latents dataset."""

from stylegan_surv.gan import load_encoder
from stylegan_surv.inversion.embed import embed
from stylegan_surv.inversion.latents import Latents
from stylegan_surv.inversion.projector import Schedule, project

__all__ = ["Latents", "Schedule", "embed", "load_encoder", "project"]
