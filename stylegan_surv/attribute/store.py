"""The attribute on disk: ``direction.safetensors`` in the model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stylegan_surv.attribute.direction import HealthAttribute
from stylegan_surv.errors import InputError

FILE = "direction.safetensors"
DIRECTIONS = ("pattern", "coefficient", "adjusted")
NETWORKS = ("generator", "encoder", "generator_sha256", "encoder_sha256")


def save_attribute(attribute: HealthAttribute, folder: str | Path, networks: dict[str, Any]) -> None:
    """Write the directions, the mean latent and the names of the networks they belong to."""
    arrays = {name: getattr(attribute, name) for name in DIRECTIONS}
    tensors = {name: np.asarray(a, np.float32) for name, a in arrays.items() if a is not None}
    tensors["mean"] = np.asarray(attribute.mean, np.float32)
    about = {
        "risk_sd": attribute.risk_sd,
        "adjusted_for": list(attribute.adjusted_for),
        "split_half": attribute.split_half,
        "note": attribute.note,
        "networks": {key: networks[key] for key in NETWORKS if networks.get(key)},
    }
    partial = Path(folder) / f"_{FILE}.partial"
    save_file(tensors, partial, metadata={"attribute": json.dumps(about)})
    partial.replace(Path(folder) / FILE)


def load_attribute(folder: str | Path) -> tuple[HealthAttribute, dict[str, str]]:
    """Read the attribute of a model's folder, and the names and hashes of its generator and encoder.

    Raises
    ------
    InputError
        If the folder holds no attribute or the file is damaged.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise InputError(f"{folder} holds no {FILE}; give the model folder of a study, such as study/model")
    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {})["attribute"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as fault:
        raise InputError(f"{path} is damaged ({fault}); fit the study again") from fault
    attribute = HealthAttribute(
        pattern=arrays["pattern"],
        coefficient=arrays.get("coefficient"),
        adjusted=arrays.get("adjusted"),
        mean=arrays["mean"],
        risk_sd=about["risk_sd"],
        adjusted_for=tuple(about["adjusted_for"]),
        split_half=about["split_half"],
        note=about["note"],
    )
    return attribute, about["networks"]
