"""Clinical signs painted on faces with known doses, for simulated patients whose truth is illness."""

from __future__ import annotations

from stylegan_surv.signs.catalogue import SIGNS, Sign
from stylegan_surv.signs.face import Manner
from stylegan_surv.signs.paint import Painting, paint, plan_painting

__all__ = ["SIGNS", "Manner", "Painting", "Sign", "paint", "plan_painting"]
