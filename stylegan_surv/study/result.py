"""A study as it is kept: what was found, where it comes from, and the folder that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stylegan_surv import __version__
from stylegan_surv._files import sha256, whole, write_json
from stylegan_surv._notebook import facts_table
from stylegan_surv._records import check_format, read_sealed, sealed, to_json
from stylegan_surv.errors import InputError
from stylegan_surv.study.data import Exposure, Flow
from stylegan_surv.survival.metrics.names import HARRELL_C

if TYPE_CHECKING:
    from stylegan_surv.attribute import HealthAttribute
    from stylegan_surv.cohort import Cohort
    from stylegan_surv.faces import Chips
    from stylegan_surv.study.final import FinalModel
    from stylegan_surv.survival.outcome import Outcome

FORMAT = 1  # of metrics.json, study.json, the Parquet files and the model's card
METRICS, FACTS, OOF, REPORT = "metrics.json", "study.json", "oof.parquet", "report.html"
STRIP, SLIDER = "strip.png", "slider.webp"
SLIDER_WORDS = "A synthetic face along the health attribute, from lower to higher risk"
PORTRAITS = 8  # patients at either end of the risk


@dataclass(frozen=True)
class CohortFacts:
    """What a reader must know of the clinical table.

    Attributes
    ----------
    time_unit, time_origin : str
        Unit of the times, and what time zero is, in words; "" where nobody has said so.
    flags : tuple of str
        What the table says about itself, in plain language.
    missing : dict of int
        Patients of the table without a value, by clinical variable.
    """

    time_unit: str = "years"
    time_origin: str = ""
    flags: tuple[str, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, cohort: Cohort, clinical: Sequence[str]) -> CohortFacts:
        """Of a cohort and the variables that the clinic knows."""
        missing = {name: int(cohort.patients[name].isna().sum()) for name in clinical}
        return cls(cohort.time_unit, cohort.time_origin, tuple(cohort.flags), missing)


@dataclass(frozen=True)
class Portraits:
    """Photographs of the patients with the lowest and with the highest out-of-fold risks, in increasing order."""

    lowest: tuple[str, ...]
    highest: tuple[str, ...]

    @classmethod
    def of(cls, photo: pd.DataFrame, index: pd.DataFrame, chips: Chips | None) -> Portraits | None:
        """Chosen by the mean rank within folds; None without chips.

        Parameters
        ----------
        photo : DataFrame
            Out-of-fold rows of the photograph's model.
        index : DataFrame
            Index photographs with ``photo_id, patient_id``.
        chips : Chips or None
        """
        if chips is None or photo.empty:
            return None
        rank = photo.groupby(["repeat", "fold"])["risk"].rank(pct=True)
        order = rank.groupby(photo["patient_id"].astype(str)).mean().sort_values().index
        shown = index[index["photo_id"].isin(set(chips.ok["photo_id"]))].drop_duplicates("patient_id")
        photo_of = dict(zip(shown["patient_id"].astype(str), shown["photo_id"].astype(str)))
        known = [photo_of[p] for p in order if p in photo_of]
        number = min(PORTRAITS, len(known) // 2)
        return cls(tuple(known[:number]), tuple(known[-number:])) if number else None


@dataclass(frozen=True, eq=False)
class Study:
    """Everything an evaluation found; ``save`` writes it, ``report`` draws it, ``open`` reads it again.

    Attributes
    ----------
    metrics : dict
        What ``metrics.json`` holds, every number and curve of the report: ``models.<name>.<metric>.{estimate, low,
        high}``, ``settings``, ``controls``, ``curves``, …
    oof : DataFrame
        Out-of-fold results: patient_id, repeat, fold, model, risk, S(t) at every horizon.
    config : dict
        The analysis as it was asked for.
    flow : Flow
        From photographs to patients and events, with what was left out and why.
    latents_info : dict
        Metadata of the latents: networks, method, settings.
    provenance : Exposure
        Whom the networks had seen.
    facts : CohortFacts
    portraits : Portraits or None
        Which faces a report shows where faces are allowed.
    tables : dict of DataFrame
        ``folds`` and ``chosen``, as in ``OutOfFold``.
    strip_png, slider_webp : bytes or None
        Of a study that was opened; otherwise ``final`` has them.
    cohort, outcome : Cohort and Outcome, or None
        The patients that were analysed and their follow-up; None in a study that was opened from its folder.
    final : FinalModel or None
        The model on all patients; None if it was not asked for, and in a study that was opened (its folder ``model``
        has it).
    chips : Chips or None
        The aligned photographs; a report shows them only where faces are allowed.
    """

    metrics: dict[str, Any]
    oof: pd.DataFrame
    config: dict[str, Any]
    flow: Flow
    latents_info: dict[str, Any] = field(default_factory=dict)
    provenance: Exposure = field(default_factory=Exposure)
    facts: CohortFacts = field(default_factory=CohortFacts)
    portraits: Portraits | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    strip_png: bytes | None = None
    slider_webp: bytes | None = None
    cohort: Cohort | None = None
    outcome: Outcome | None = None
    final: FinalModel | None = None
    chips: Chips | None = None

    @property
    def model(self) -> Any:
        """The model fitted on all patients, or None."""
        return None if self.final is None else self.final.model

    @property
    def attribute(self) -> HealthAttribute | None:
        """Its health attribute, or None."""
        return None if self.final is None else self.final.attribute

    @property
    def strip(self) -> bytes | None:
        """PNG of a synthetic face along the attribute, or None."""
        if self.final is None:
            return self.strip_png
        return None if self.final.face is None else self.final.face.strip

    @property
    def slider(self) -> bytes | None:
        """WebP of the frames of a synthetic face along the attribute, or None."""
        if self.final is None:
            return self.slider_webp
        return None if self.final.face is None else self.final.face.slider

    @property
    def slider_figure(self) -> str | None:
        """HTML of the slider that moves between them, or None."""
        from stylegan_surv.attribute.slider import Slider

        return None if self.slider is None else Slider(self.slider).html(SLIDER_WORDS)

    def _repr_html_(self) -> str:
        facts: dict[str, object] = {"patients": self.flow.patients, "events": self.flow.events}
        for name, found in self.metrics["models"].items():
            c = found.get(HARRELL_C, {})
            if c.get("estimate") is not None:
                facts[f"C, {name}"] = f"{c['estimate']:.3f} ({c['low']:.3f} to {c['high']:.3f})"
        return facts_table("Study", facts) + (self.slider_figure or "")

    def to_lifelines(self) -> pd.DataFrame:
        """The patients with their follow-up, covariates and out-of-fold scores, as lifelines' fitters take them.

        Raises
        ------
        InputError
            The study was opened from its folder, which names no patient's follow-up.
        """
        from stylegan_surv.survival.bridge import to_lifelines

        outcome, covariates = self._patients()
        return to_lifelines(self.oof, outcome, covariates)

    def to_scikit_survival(self) -> tuple[pd.DataFrame, Any]:
        """Scores and covariates X and the outcome y, as scikit-survival takes them; raises as `to_lifelines` does."""
        from stylegan_surv.survival.bridge import to_scikit_survival

        outcome, covariates = self._patients()
        return to_scikit_survival(self.oof, outcome, covariates)

    def _patients(self) -> tuple[Outcome, pd.DataFrame]:
        if self.cohort is None or self.outcome is None:
            raise InputError(
                "this study was opened from its folder, which does not hold the patients' follow-up; run "
                "`evaluate`, or give oof.parquet and the cohort to stylegan_surv.survival.to_lifelines"
            )
        table = self.cohort.patients.set_index("patient_id").loc[list(self.outcome.patient_id)]
        return self.outcome, table[self.cohort.covariates]

    def report(self, path: str | Path, *, faces: bool = False) -> Path:
        """Write the report as one self-contained HTML file.

        Parameters
        ----------
        path : str or Path
        faces : bool
            Show the patients with the lowest and the highest risks, where the study has their photographs.
        """
        from stylegan_surv.report import render

        return render(self, path, faces=faces)

    def save(self, folder: str | Path, *, faces: bool = False) -> Path:
        """Write report.html, metrics.json, study.json, the tables as Parquet and, where there is one, model/.

        Every file is renamed into place when it is complete; study.json comes last and holds the hashes of the others,
        so that a study of which a part was replaced or damaged is refused when it is opened.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.final is not None:
            self._save_model(self.final, folder / "model")
        for name, table in {Path(OOF).stem: self.oof, **self.tables}.items():
            write_table(folder / f"{name}.parquet", table)
        for name, picture in {STRIP: self.strip, SLIDER: self.slider}.items():
            if picture is None:
                (folder / name).unlink(missing_ok=True)
            else:
                with whole(folder / name) as unfinished:
                    unfinished.write_bytes(picture)
        write_json(folder / METRICS, self.metrics)
        names = (METRICS, *(f"{name}.parquet" for name in (Path(OOF).stem, *self.tables)))
        written = {name: sha256(folder / name) for name in names}
        write_json(folder / FACTS, sealed({**self._facts(), "files": written}))
        self.report(folder / REPORT, faces=faces)
        return folder

    def _save_model(self, final: FinalModel, folder: Path) -> None:
        from stylegan_surv.attribute import save_attribute
        from stylegan_surv.survival.engines.persist import save_model

        save_model(final.model, folder, card=self.card())
        for which, prognosis in final.prognoses.items():
            save_model(prognosis, folder / which, card=self.card())
        save_attribute(final.attribute, folder)
        final.page.save(folder)

    def _facts(self) -> dict[str, Any]:
        record = {
            "format": FORMAT,
            "version": __version__,
            "config": self.config,
            "flow": self.flow,
            "latents": self.latents_info,
            "provenance": self.provenance,
            "cohort": self.facts,
            "portraits": self.portraits,
        }
        return {name: to_json(value) for name, value in record.items()}

    @classmethod
    def open(cls, folder: str | Path, *, chips: Chips | None = None) -> Study:
        """Read a study that `save` wrote, without its cohort and its model.

        Parameters
        ----------
        folder : str or Path
        chips : Chips, optional
            The aligned photographs, for a report with faces.

        Raises
        ------
        InputError
            The folder holds no study, a file is damaged, or of another format.
        """
        folder = Path(folder)
        metrics, facts = _read(folder / METRICS), _facts_of(folder)
        strip, slider = folder / STRIP, folder / SLIDER
        portraits, seen = facts["portraits"], facts["provenance"]
        try:
            return cls(
                metrics=metrics,
                oof=read_table(folder / OOF),
                config=facts["config"],
                flow=Flow(**facts["flow"]),
                latents_info=facts["latents"],
                provenance=Exposure(tuple(seen["seen"]), tuple(seen["unknown"]), seen["text"]),
                facts=CohortFacts(**{**facts["cohort"], "flags": tuple(facts["cohort"]["flags"])}),
                portraits=None
                if portraits is None
                else Portraits(**{end: tuple(names) for end, names in portraits.items()}),
                tables={name: read_table(folder / f"{name}.parquet") for name in ("folds", "chosen")},
                strip_png=strip.read_bytes() if strip.exists() else None,
                slider_webp=slider.read_bytes() if slider.exists() else None,
                chips=chips,
            )
        except (OSError, KeyError, TypeError, AttributeError, pa.ArrowInvalid) as fault:
            raise InputError(
                f"{folder} is not a whole study ({type(fault).__name__}: {fault}); run `fit` again"
            ) from fault

    def card(self) -> dict[str, Any]:
        """What travels with the fitted model; it names no patient."""
        keep = ("patients", "events", "photos")
        exposure, settings = self.provenance, self.metrics["settings"]
        return {
            "format": FORMAT,
            "version": __version__,
            "config": self.config,
            "cohort": {k: getattr(self.flow, k) for k in keep},
            "latents": self.latents_info,
            "provenance": {**to_json(exposure), "seen": len(exposure.seen)},
            "performance": self.metrics["models"],
            "horizons": [t for t in settings["horizons"] if f"{t:g}" not in settings["not_followed"]],
            "time_unit": self.facts.time_unit,
            "time_origin": self.facts.time_origin,
            "clinical": list(self.config["clinical"]),
            "causes": 1 if self.outcome is None else len(self.outcome.causes),
            "training": {} if self.final is None else dict(self.final.training),
        }


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A Parquet file whose metadata hold the format version."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    about = json.dumps({"format": FORMAT, "version": __version__})
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"stylegan_surv": about.encode()})
    with whole(path) as unfinished:
        pq.write_table(arrow, unfinished)


def read_table(path: Path) -> pd.DataFrame:
    """What `write_table` wrote; a file of another format is refused."""
    arrow = pq.read_table(path)
    about = json.loads((arrow.schema.metadata or {}).get(b"stylegan_surv", b"{}"))
    check_format(about.get("format"), FORMAT, path)
    frame: pd.DataFrame = arrow.to_pandas()
    return frame


def _facts_of(folder: Path) -> dict[str, Any]:
    """study.json, and whether the files that it names are as they were written."""
    path = folder / FACTS
    if not path.exists():
        raise InputError(f"there is no {FACTS} in {folder}; give a folder that `fit` wrote")
    facts = read_sealed(path, FORMAT)
    for name, digest in facts["files"].items():
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a whole study: it has no {name}. Fit the study again.")
        if sha256(folder / name) != digest:
            raise InputError(f"{folder / name} is damaged: it is not as it was written. Fit the study again.")
    return facts


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a study."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InputError(
            f"there is no {path.name} in {path.parent}; give a folder that `fit` wrote"
        ) from fault
    except ValueError as fault:
        raise InputError(f"{path} is damaged ({fault}); run `fit` again") from fault
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, expected an object; run `fit` again")
    check_format(record.get("format"), FORMAT, path)
    return record
