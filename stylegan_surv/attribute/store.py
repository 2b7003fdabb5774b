"""The attribute on disk: ``direction.safetensors`` in the model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open

from stylegan_surv._files import write_arrays
from stylegan_surv._records import check_format, first_fault
from stylegan_surv._types import Array
from stylegan_surv.attribute.direction import HealthAttribute
from stylegan_surv.attribute.pattern import KINDS, NOTE
from stylegan_surv.errors import InputError
from stylegan_surv.inversion.origin import Origin

FILE = "direction.safetensors"
FORMAT = 1  # of that file
REMEDY = "Fit the study again."


class _About(BaseModel):
    """What the file says of its arrays."""

    risk_sd: float = Field(ge=0, allow_inf_nan=False)
    adjusted_for: list[str] = []
    split_half: dict[str, float] = {}
    note: str = NOTE
    origin: dict[str, Any] | None = None
    latents: str | None = None


def save_attribute(attribute: HealthAttribute, folder: str | Path) -> None:
    """Write the directions, the mean latent, and where the latents come from."""
    arrays = {name: getattr(attribute, name) for name in (*KINDS, "mean")}
    about = _About(
        risk_sd=attribute.risk_sd,
        adjusted_for=list(attribute.adjusted_for),
        split_half=attribute.split_half,
        note=attribute.note,
        origin=None if attribute.origin is None else attribute.origin.to_metadata(),
        latents=None if attribute.latents is None else str(attribute.latents),
    )
    write_arrays(
        Path(folder) / FILE,
        {name: np.asarray(array, np.float32) for name, array in arrays.items() if array is not None},
        {"format": str(FORMAT), "attribute": about.model_dump_json()},
    )


def load_attribute(folder: str | Path) -> HealthAttribute:
    """Read the attribute of a model's folder.

    Raises
    ------
    InputError
        If the folder holds no attribute, or the file is damaged or of another format.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise InputError(f"{folder} holds no {FILE}; give the model folder of a study, such as study/model")
    try:
        with safe_open(path, "np") as file:
            written: dict[str, str] = file.metadata() or {}
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_format(written.get("format"), FORMAT, path, REMEDY)
        about = _About.model_validate(json.loads(written.get("attribute", "null")))
    except (SafetensorError, OSError, json.JSONDecodeError) as fault:
        raise InputError(f"{path} is damaged ({fault}). {REMEDY}") from fault
    except ValidationError as wrong:
        raise InputError(f"{path} is damaged: {first_fault(wrong)}. {REMEDY}") from wrong
    _check_arrays(arrays, path)
    return HealthAttribute(
        pattern=arrays["pattern"],
        coefficient=arrays.get("coefficient"),
        adjusted=arrays.get("adjusted"),
        mean=arrays["mean"],
        risk_sd=about.risk_sd,
        adjusted_for=tuple(about.adjusted_for),
        split_half=about.split_half,
        note=about.note,
        origin=None if about.origin is None else Origin.from_metadata(about.origin, str(path)),
        latents=None if about.latents is None else Path(about.latents),
    )


def _check_arrays(arrays: dict[str, Array], path: Path) -> None:
    """Every direction is there, of one shape [num_ws, w_dim], and finite."""
    if missing := {"pattern", "mean"} - arrays.keys():
        raise InputError(f"{path} is damaged: it holds no {min(missing)!r}. {REMEDY}")
    shape = arrays["pattern"].shape
    for name, array in {"pattern": arrays["pattern"], **arrays}.items():
        if array.ndim != 2 or array.shape != shape:
            raise InputError(
                f"{path} is damaged: {name!r} has shape {list(array.shape)}; expected [num_ws, w_dim], the same for "
                f"all. {REMEDY}"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path} is damaged: {name!r} holds numbers that are not finite. {REMEDY}")
