"""Photographs into W+: encoder, projector, and the latents dataset.

Names are imported on first use: where a latent comes from can be read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylegan_surv.gan import load_encoder
    from stylegan_surv.inversion.embedding import embed
    from stylegan_surv.inversion.latents import Latents
    from stylegan_surv.inversion.origin import Origin
    from stylegan_surv.inversion.projector import Targets, project
    from stylegan_surv.inversion.settings import EmbedSettings, Schedule
    from stylegan_surv.inversion.sources import Pictures

_WHERE = {
    "EmbedSettings": "stylegan_surv.inversion.settings",
    "Latents": "stylegan_surv.inversion.latents",
    "Origin": "stylegan_surv.inversion.origin",
    "Pictures": "stylegan_surv.inversion.sources",
    "Schedule": "stylegan_surv.inversion.settings",
    "Targets": "stylegan_surv.inversion.projector",
    "embed": "stylegan_surv.inversion.embedding",
    "load_encoder": "stylegan_surv.gan",
    "project": "stylegan_surv.inversion.projector",
}

__all__ = [
    "EmbedSettings",
    "Latents",
    "Origin",
    "Pictures",
    "Schedule",
    "Targets",
    "embed",
    "load_encoder",
    "project",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
