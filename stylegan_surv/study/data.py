"""A study's data, prepared once: one row per patient of latents, clinical table and outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stylegan_surv._types import Array, Bools, Floats, Ints
from stylegan_surv.errors import InputError
from stylegan_surv.study.settings import StudySettings
from stylegan_surv.survival.design import patient_matrix, strata_from
from stylegan_surv.survival.metrics.table import default_horizons
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import make_folds

if TYPE_CHECKING:
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.faces import Chips
    from stylegan_surv.inversion import Latents


@dataclass(frozen=True)
class Flow:
    """From photographs to patients and events, with every exclusion and its reason.

    Attributes
    ----------
    photos, embedded : int
        Photographs in the table, and those that have a latent.
    patients, patients_in_table : int
        Patients analysed, and those of the table.
    events : int
        Among the patients analysed.
    excluded : dict of str to int
        Photographs left out, by reason.
    """

    photos: int
    embedded: int
    patients: int
    patients_in_table: int
    events: int
    excluded: Mapping[str, int]

    @classmethod
    def of(cls, latents: Latents, cohort: Cohort, used: Sequence[str]) -> Flow:
        """Of a study whose patients are `used`."""
        analysed = cohort.patients[cohort.patients["patient_id"].isin(list(used))]
        reasons = latents.failed["error"].fillna("unknown").value_counts()
        never = cohort.table[~cohort.table["photo_id"].isin(set(latents.frame["photo_id"]))]
        excluded = {str(reason): int(count) for reason, count in reasons.items()}
        if len(never):
            excluded["not among the latents"] = len(never)
        return cls(
            photos=len(cohort.table),
            embedded=len(latents),
            patients=len(analysed),
            patients_in_table=len(cohort.patients),
            events=int(analysed["event"].sum()),
            excluded=excluded,
        )


@dataclass(frozen=True)
class Exposure:
    """Which patients of the study the generator and the encoder were trained on, as far as their cards tell.

    Attributes
    ----------
    seen : tuple of str
        Patients whom one of the networks was trained on.
    unknown : tuple of str
        Networks without a full record.
    text : str
        The same in words.
    """

    seen: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    text: str = ""

    @property
    def leak(self) -> bool:
        """Whether a patient had been seen, or may have been."""
        return bool(self.seen or self.unknown)

    def record(self) -> dict[str, object]:
        """As files hold it."""
        return {"leak": self.leak, "seen": self.seen, "unknown": self.unknown, "text": self.text}

    @classmethod
    def of(cls, latents: Latents, cohort: Cohort, chips: Chips | None = None) -> Exposure:
        """From the provenance that the latents carry; with chips, photographs are compared as well."""
        from stylegan_surv.gan.formats.provenance import chip_hashes, intersect, lineage

        # a projector's latents have seen no encoder; latents from elsewhere say nothing of either
        seen_by = latents.metadata.get("provenance") or {"generator": None, "encoder": None}
        cards = {role: {"provenance": step} for role, step in seen_by.items()}
        listed = any(step.get("photos") for card in cards.values() for step in lineage(card))
        hashes = chip_hashes(chips) if chips is not None and listed else None
        found = {role: intersect(cohort, card, hashes) for role, card in cards.items()}
        unknown = tuple(role for role, overlap in found.items() if not overlap.known)
        seen = tuple(sorted({p for overlap in found.values() for p in overlap.patients}))
        return cls(
            seen, unknown, _exposure_text(len(seen), unknown, compared=hashes is not None or not listed)
        )


def _exposure_text(seen: int, unknown: Sequence[str], *, compared: bool) -> str:
    said = []
    if seen:
        said.append(
            f"The networks were trained on {seen} of the study's patients. The figures are of the others; "
            "C inside and outside stand beside each other."
        )
    if unknown:
        said.append(f"What the {' and the '.join(unknown)} had seen is not known: a leak cannot be excluded.")
    nobody = "o patient of this study was among the training photographs of generator or encoder."
    if not said and compared:
        said.append(f"N{nobody}")
    elif not said:
        said.append(f"By their identifiers, n{nobody}")
        said.append("Their photographs were not compared (no chips were given).")
    return " ".join(said)


@dataclass(frozen=True, eq=False)
class StudyData:
    """Latents, clinical table and outcome of the same patients, in the same order.

    Attributes
    ----------
    latents : Latents
    cohort : Cohort
        With its photographs under the names that they have among the latents.
    ids : array of str, shape (n,)
        Patients of the cohort with at least one embedded index photograph.
    x : array of float32, shape (n, num_ws * w_dim)
        Mean latent of the patient's index photographs.
    table : DataFrame
        One row per patient, with the covariates.
    outcome : Outcome
    clinical : tuple of str
        Columns that the clinic knows.
    strata : array of str, shape (n,), or None
        Levels within which patients are compared.
    groups : array of str, shape (n,), or None
        Levels that stay in one fold.
    photos : DataFrame
        ``photo_id, patient_id, …`` of the index photographs that were embedded.
    exposure : Exposure
        Whom the networks had seen.
    flow : Flow
    """

    latents: Latents
    cohort: Cohort
    ids: Array
    x: Floats
    table: pd.DataFrame
    outcome: Outcome
    clinical: tuple[str, ...]
    strata: Array | None
    groups: Array | None
    photos: pd.DataFrame
    exposure: Exposure
    flow: Flow

    @classmethod
    def prepare(
        cls,
        latents: Latents,
        cohort: Cohort,
        clinical: Sequence[str] = (),
        settings: StudySettings | None = None,
        chips: Chips | None = None,
    ) -> StudyData:
        """Bring latents and clinical table together.

        Parameters
        ----------
        latents : Latents
        cohort : Cohort
        clinical : sequence of str
            Covariates of the cohort.
        settings : StudySettings, optional
            Names the columns of strata and groups.
        chips : Chips, optional
            The aligned photographs, to be compared with those that the networks had seen.

        Raises
        ------
        InputError
            A column does not exist, no photograph of the cohort was embedded, or it belongs to another patient.
        """
        settings = settings or StudySettings()
        check_columns(cohort, (*clinical, *([settings.groups] if settings.groups else [])))
        cohort = named_as_embedded(cohort, latents)
        ids, x = patient_matrix(latents, cohort)
        table = cohort.patients.set_index("patient_id").loc[list(ids)].reset_index()
        photos = cohort.index_photos()
        photos = photos[photos["photo_id"].isin(set(latents.ids)) & photos["patient_id"].isin(set(ids))]
        return cls(
            latents=latents,
            cohort=cohort,
            ids=ids,
            x=x,
            table=table,
            outcome=Outcome.from_frame(table),
            clinical=tuple(clinical),
            strata=strata_from(settings.strata, table) if settings.strata else None,
            groups=table[settings.groups].astype(str).to_numpy() if settings.groups else None,
            photos=photos,
            exposure=Exposure.of(latents, cohort, chips),
            flow=Flow.of(latents, cohort, list(ids)),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Layers that the model reads, and w_dim."""
        num_ws, w_dim = self.latents.codes.shape[1:]
        return int(num_ws), int(w_dim)

    @property
    def covariates(self) -> pd.DataFrame | None:
        """The clinical columns; None without any."""
        return self.table[list(self.clinical)] if self.clinical else None

    @property
    def stratified(self) -> Outcome:
        """The outcome with its strata."""
        o = self.outcome
        return Outcome(o.patient_id, o.time, o.event, o.entry, self.strata)

    @property
    def fresh(self) -> Bools:
        """Patients whom no network had seen: they are evaluated, the others are trained on only; shape (n,)."""
        return ~is_one_of(self.outcome, self.exposure.seen)

    def division(self, settings: StudySettings) -> Ints:
        """Outer fold of every patient in every repeat, balanced over the strata; shape (repeats, n)."""
        return make_folds(
            self.stratified, settings.folds, repeats=settings.repeats, groups=self.groups, seed=settings.seed
        )

    def horizons(self, settings: StudySettings) -> list[float]:
        """Times of S(t): those asked for, or the default ones."""
        return default_horizons(self.outcome) if settings.horizons is None else list(settings.horizons)

    def inversion_error(self, patients: Sequence[str]) -> Floats | None:
        """Mean LPIPS of each patient's photographs against their reconstructions; None where not measured."""
        error = self.latents.rows.groupby("patient_id")["lpips"].mean().reindex(list(patients))
        return None if error.isna().all() else error.to_numpy(float)


def is_one_of(outcome: Outcome, patients: Sequence[str]) -> Bools:
    """Which rows of the outcome belong to these patients, shape (n,)."""
    return np.isin(outcome.patient_id, list(patients))


def check_columns(cohort: Cohort, columns: Sequence[str]) -> None:
    """Every column that the analysis names must be a covariate of the cohort."""
    for name in columns:
        if name not in cohort.covariates:
            have = ", ".join(cohort.covariates) or "no covariates"
            raise InputError(f"there is no column {name!r}; the table has {have}. Correct the name.")


def named_as_embedded(cohort: Cohort, latents: Latents) -> Cohort:
    """The cohort with its photographs under the names that they have among the latents.

    A table that was read by itself names two photographs IMG_0 of two folders otherwise than a folder that holds more
    of them; their paths tell which is which.
    """
    other = ~cohort.table["photo_id"].isin(set(latents.frame["photo_id"]))
    if not other.any():
        return cohort
    known = latents.frame[latents.frame["source_path"].notna()]
    paths: dict[str, list[tuple[str, str]]] = {}
    for patient, path, name in zip(known["patient_id"], known["source_path"], known["photo_id"]):
        paths.setdefault(patient, []).append(("/" + str(path).replace("\\", "/"), name))
    table = cohort.table.copy()
    for row, patient, photo in table.loc[other, ["patient_id", "photo"]].itertuples():
        end = "/" + str(photo).replace("\\", "/").lstrip("/")
        same = [name for path, name in paths.get(patient, []) if path.endswith(end)]
        if len(same) == 1:
            table.loc[row, "photo_id"] = same[0]
    return replace(cohort, table=table)
