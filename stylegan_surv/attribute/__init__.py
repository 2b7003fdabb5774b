"""The health attribute: direction, edit, and whether the model looks at the face."""

from stylegan_surv.attribute.difference import difference
from stylegan_surv.attribute.direction import HealthAttribute, health_attribute
from stylegan_surv.attribute.dose import DoseResponse, dose_response
from stylegan_surv.attribute.edit import begin, edit, faithful, likeness
from stylegan_surv.attribute.focus import focus
from stylegan_surv.attribute.pattern import (
    NOTE,
    adjusted_pattern,
    coefficient_step,
    cosine,
    linear_coefficients,
    pattern,
)
from stylegan_surv.attribute.store import load_attribute, save_attribute
from stylegan_surv.attribute.strips import grid, strip

__all__ = [
    "NOTE",
    "DoseResponse",
    "HealthAttribute",
    "adjusted_pattern",
    "begin",
    "coefficient_step",
    "cosine",
    "difference",
    "dose_response",
    "edit",
    "faithful",
    "focus",
    "grid",
    "health_attribute",
    "likeness",
    "linear_coefficients",
    "load_attribute",
    "pattern",
    "save_attribute",
    "strip",
]
