"""The health attribute: direction, edit, and whether the model looks at the face."""

from stylegan_surv.attribute.direction import NOTE, HealthAttribute, cosine, health_attribute
from stylegan_surv.attribute.edit import DoseResponse, dose_response, edit, faithful, focus, strip
from stylegan_surv.attribute.store import load_attribute, save_attribute

__all__ = [
    "NOTE",
    "DoseResponse",
    "HealthAttribute",
    "cosine",
    "dose_response",
    "edit",
    "faithful",
    "focus",
    "health_attribute",
    "load_attribute",
    "save_attribute",
    "strip",
]
