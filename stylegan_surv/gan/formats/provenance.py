"""Whom a network has seen: keyed hashes of patients and perceptual hashes of chips, written into its card.

A survival model that is evaluated on patients whom the generator or the encoder was trained on is too good by an
unknown amount. With these records the overlap is computed, not promised.
"""

from __future__ import annotations

import hmac
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stylegan_surv._types import Pixels
from stylegan_surv.cohort import Cohort
from stylegan_surv.faces import Chips
from stylegan_surv.faces.duplicates import hash_distances, perceptual_hash

# A chip saved again, halved or brightened by 30 % differs in under 12 % of the bits (95 % quantile); of 436,645
# pairs of portraits one lies below this threshold, and that is a photograph listed twice (benchmarks/measures.py).
SAME_PHOTO = 0.15


def patient_key(patient_id: str, salt: str) -> str:
    """HMAC-SHA256 of a patient's identifier, shortened to 128 bits.

    The key is the card's ``salt``: whoever holds the card *and* a list of candidate identifiers can test them, nobody
    can read identifiers from the card alone.
    """
    text = unicodedata.normalize("NFC", str(patient_id).strip())
    return hmac.new(salt.encode(), text.encode(), "sha256").hexdigest()[:32]


def chip_hashes(chips: Chips) -> dict[str, str]:
    """photo_id → :func:`perceptual_hash` of every chip of a folder."""
    return {str(name): perceptual_hash(chips.load(name)) for name in chips.ok["photo_id"]}


def record(
    chips: Iterable[Pixels],
    patient_ids: Iterable[str] | None,
    *,
    base: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    salt: str | None = None,
) -> dict[str, Any]:
    """The ``provenance`` of a network trained on these chips.

    Parameters
    ----------
    chips : iterable of array of uint8
        The training chips, uint8 [H, W, 3] each.
    patient_ids : iterable of str, optional
        Whose they are; order and repetitions do not matter. None: nobody has said so. Then the same photographs are
        recognised, but other photographs of these people are not, and a leak is not ruled out.
    base : mapping or sequence of mapping, optional
        Card of the network that training started from, or of each of several; what they had seen stays seen.
    salt : str, optional
        Key of the patient hashes; random by default.
    """
    salt = salt or secrets.token_hex(16)
    made: dict[str, Any] = {
        "kind": "unnamed photographs" if patient_ids is None else "photographs",
        "salt": salt,
        "patients": sorted({patient_key(p, salt) for p in patient_ids or ()}),
        "photos": sorted({perceptual_hash(chip) for chip in chips}),
    }
    cards = [] if base is None else [base] if isinstance(base, Mapping) else list(base)
    before: list[Any] = []
    for card in cards:
        step = card.get("provenance") or {"kind": "unknown"}
        before += [] if step in before else [step]
    if before:
        made["base"] = before[0] if len(before) == 1 else before
    return made


@dataclass(frozen=True)
class Overlap:
    """Which of a study's patients a network has seen.

    Attributes
    ----------
    known : bool
        Whether the card lists everybody whom the network and its bases were trained on.
    patients : tuple of str
        Patients of the study that were in its training, by identifier or by photograph; in the study's order.
    photos : tuple of str
        Photographs recognised by their perceptual hash.
    """

    known: bool
    patients: tuple[str, ...]
    photos: tuple[str, ...]


def lineage(card: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The provenance of a network, then of those it was trained from, and so on."""
    steps: list[Any] = [card.get("provenance") or {"kind": "unknown"}]
    for step in steps:  # grows on the way
        yield step if isinstance(step, Mapping) else {"kind": "unknown"}
        base = step.get("base") if isinstance(step, Mapping) else None
        steps += [] if base is None else base if isinstance(base, list) else [base]


def intersect(
    cohort: Cohort | pd.DataFrame, card: Mapping[str, Any], hashes: Mapping[str, str] | None = None
) -> Overlap:
    """Patients of a study whom a network was trained on.

    Parameters
    ----------
    cohort : Cohort or DataFrame
        The study, or a frame with ``patient_id`` and ``photo_id``.
    card : mapping
        The network's card.
    hashes : mapping of str to str, optional
        ``photo_id`` → :func:`perceptual_hash` of the study's chips; without them only identifiers are compared, which
        another hospital's numbering defeats.
    """
    table = cohort.table if isinstance(cohort, Cohort) else cohort
    steps, hashes = list(lineage(card)), hashes or {}
    names = list(hashes)
    seen = np.zeros(len(names), dtype=bool)
    patients: set[str] = set()
    for step in steps:
        listed = set(step.get("patients", ()))
        if listed:
            patients |= {
                p for p in set(table["patient_id"]) if patient_key(p, str(step.get("salt"))) in listed
            }
        if photos := [h for h in step.get("photos", ()) if re.fullmatch(r"[0-9a-f]{64}", str(h))]:
            distance = hash_distances([hashes[name] for name in names], photos)
            seen |= (distance <= SAME_PHOTO).any(axis=1)
    recognised = tuple(name for name, found in zip(names, seen) if found)
    if recognised:
        patients |= set(table.loc[table["photo_id"].isin(recognised), "patient_id"])
    order = dict.fromkeys(p for p in table["patient_id"] if p in patients)
    known = all(step.get("kind") in ("synthetic", "photographs") for step in steps)
    return Overlap(known, tuple(order), recognised)
