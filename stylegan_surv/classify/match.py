"""Controls drawn from a pool to the cases' sex and age distribution, each of them once.

Either by frequency, so many controls per cell of sex and age band as there are cases (as the cancer-face study did), or
individually, k controls for every case within a caliper, by the assignment with the smallest sum of distances.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching, min_weight_full_bipartite_matching

from stylegan_surv._files import write_csv, write_json
from stylegan_surv._records import check_format, to_json
from stylegan_surv._types import Bools, Floats, Ints
from stylegan_surv.classify.balance import BalanceRow, balance
from stylegan_surv.classify.people import SOURCES, People, read_people
from stylegan_surv.errors import InputError

FORMAT = 1
TABLE, RECORD = "matched.csv", "match.json"
Method = Literal["caliper", "frequency"]
METHODS: tuple[Method, ...] = ("caliper", "frequency")


@dataclass(frozen=True)
class MatchSettings:
    """How controls are drawn.

    Attributes
    ----------
    method : {"caliper", "frequency"}
        Nearest controls within the calipers, or as many per cell of ``exact`` and age band as there are cases.
    ratio : int
        Controls per case.
    calipers : mapping of str to float
        Column → largest difference within a set; for ``caliper`` only.
    exact : tuple of str
        Columns that agree within a set.
    age_band : float
        Width of the bands of ``frequency``, years.
    ages : tuple of (float, float)
        People outside are left out beforehand, years.
    drop_unmatched : bool
        Leave out cases without enough controls, instead of refusing.
    seed : int
        Chooses between equal controls.
    """

    method: Method = "caliper"
    ratio: int = 1
    calipers: Mapping[str, float] = field(default_factory=lambda: {"age": 3.0})
    exact: tuple[str, ...] = ("sex",)
    age_band: float = 5.0
    ages: tuple[float, float] = (0.0, 125.0)
    drop_unmatched: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS or self.ratio < 1 or self.age_band <= 0:
            raise InputError(
                f"the method is {self.method!r} with {self.ratio} controls per case and age bands of "
                f"{self.age_band:g} years; expected one of {', '.join(METHODS)}, a ratio ≥ 1 and bands above 0."
            )
        if self.method == "caliper" and not (self.calipers and min(self.calipers.values()) >= 0):
            raise InputError(f"the calipers are {dict(self.calipers)}; expected a width ≥ 0 for a column.")


@dataclass(frozen=True, eq=False)
class Matched:
    """Cases with their controls.

    Attributes
    ----------
    people : People
        Their table has the column ``set``: a case and its controls share a number.
    balance : tuple of BalanceRow
    settings : MatchSettings
    unmatched : tuple of str
        Cases that were left out for want of controls.
    outside : int
        People outside the age limits.
    """

    people: People
    balance: tuple[BalanceRow, ...]
    settings: MatchSettings
    unmatched: tuple[str, ...] = ()
    outside: int = 0

    @property
    def sets(self) -> Ints:
        """Number of the matched set of every row."""
        return self.people.table["set"].to_numpy(int)

    def save(self, folder: str | Path) -> None:
        """Write ``matched.csv`` and ``match.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / TABLE, self.people.table.drop(columns=["path", "photo_id"]))
        record = {"format": FORMAT, "settings": self.settings, "balance": self.balance}
        write_json(folder / RECORD, to_json({**record, "unmatched": self.unmatched, "outside": self.outside}))


def match(people: People, settings: MatchSettings | None = None) -> Matched:
    """Draw controls for the cases.

    Parameters
    ----------
    people : People
        All cases and the pool of controls.
    settings : MatchSettings, optional

    Returns
    -------
    Matched
        The rows of a set stand together, the case first.

    Raises
    ------
    InputError
        If the pool is smaller than needed, a column is missing or empty, or a cell is short of controls: the
        message names it.
    """
    settings = settings or MatchSettings()
    low, high = settings.ages
    inside = people.table["age"].between(low, high).to_numpy()
    candidates = people.rows(inside)
    _check(candidates, settings)
    draw = _nearest if settings.method == "caliper" else _by_frequency
    found = draw(candidates, settings)
    rows = [(k, member) for k, members in enumerate(found.values()) for member in members]
    table = candidates.table.iloc[[row for _, row in rows]].reset_index(drop=True)
    table["set"] = [k for k, _ in rows]
    lost = np.setdiff1d(np.flatnonzero(candidates.case), list(found))
    if not len(table):
        raise InputError(f"No case has {settings.ratio} controls in its reach; widen the calipers.")
    named = [
        name for name in dict.fromkeys(("age", "sex", *settings.exact, *settings.calipers)) if name in table
    ]
    others = [n for n in (*candidates.covariates(), *SOURCES) if n in table and n not in named]
    return Matched(
        People(table, people.source),
        balance(people.table, table, [*named, *others]),
        settings,
        tuple(candidates.table["patient_id"].iloc[lost]),
        int((~inside).sum()),
    )


def _check(people: People, settings: MatchSettings) -> None:
    """Whether both classes and all columns are there, and the pool is large enough at all."""
    wanted = [*settings.exact, *(settings.calipers if settings.method == "caliper" else ())]
    for name in wanted:
        if name not in people.table or people.table[name].isna().any():
            raise InputError(
                f"controls are to be matched on {name}, which {people.source} does not have for everybody; it has "
                f"{', '.join(people.table.columns)}."
            )
    cases = int(people.case.sum())
    pool = len(people) - cases
    if cases == 0 or pool == 0:
        raise InputError(
            f"Within the age limits there are {cases} cases and {pool} controls; both are needed."
        )
    if pool < cases * settings.ratio and not settings.drop_unmatched:
        raise InputError(
            f"The pool holds {pool} controls for {cases} cases, of which {cases * settings.ratio} are needed, for "
            "nobody is used twice.",
            python="Lower ratio, or set drop_unmatched=True.",
            command="Lower --ratio, or give --drop-unmatched.",
        )


def _keys(people: People, settings: MatchSettings) -> Ints:
    """Number of the combination of exact columns of every row."""
    if not settings.exact:
        return np.zeros(len(people), int)
    keys = people.table[list(settings.exact)].astype(str).agg(" / ".join, axis=1)
    return np.asarray(pd.factorize(keys, sort=True)[0])


def _nearest(people: People, settings: MatchSettings) -> dict[int, list[int]]:
    """Row of a case → its own row and those of its controls, by the cheapest full assignment."""
    rng = np.random.default_rng(settings.seed)
    case, keys = people.case, _keys(people, settings)
    values = {name: people.table[name].to_numpy(float) for name in settings.calipers}
    found: dict[int, list[int]] = {}
    short: list[int] = []
    for key in np.unique(keys[case]):
        cases, pool = np.flatnonzero(case & (keys == key)), np.flatnonzero(~case & (keys == key))
        cases, pool = rng.permutation(cases), rng.permutation(pool)
        cost = _costs(cases, pool, values, settings.calipers)
        full = np.repeat(np.arange(len(cases)), settings.ratio)
        reach = csr_matrix(np.isfinite(cost)[full]) if len(pool) else csr_matrix((len(full), 0))
        assigned = maximum_bipartite_matching(reach, perm_type="column") if len(pool) else -np.ones(len(full))
        complete = np.bincount(full[assigned >= 0], minlength=len(cases)) == settings.ratio
        short += list(cases[~complete])
        kept = np.flatnonzero(complete)
        if len(kept):
            chosen = _cheapest(cost[np.repeat(kept, settings.ratio)]).reshape(len(kept), settings.ratio)
            found |= {int(cases[c]): [int(cases[c]), *map(int, pool[row])] for c, row in zip(kept, chosen)}
    if short and not settings.drop_unmatched:
        raise _shortage(people, settings, np.array(short))
    return dict(sorted(found.items()))


def _costs(cases: Ints, pool: Ints, values: Mapping[str, Floats], calipers: Mapping[str, float]) -> Floats:
    """Sum of the differences in calipers, [cases, pool]; infinite beyond one."""
    cost = np.zeros((len(cases), len(pool)))
    for name, width in calipers.items():
        apart = np.abs(values[name][cases][:, None] - values[name][pool])
        cost += np.where(apart <= width, apart / max(width, 1e-9), np.inf)
    return cost


def _cheapest(cost: Floats) -> Ints:
    """Column of every row in the assignment with the smallest sum; one is known to exist."""
    rows, columns = np.nonzero(np.isfinite(cost))
    graph = csr_matrix((cost[rows, columns] + 1, (rows, columns)), shape=cost.shape)  # 0 would mean no edge
    left, right = min_weight_full_bipartite_matching(graph)
    return np.asarray(right[np.argsort(left)])


def _shortage(people: People, settings: MatchSettings, short: Ints) -> InputError:
    """The cell in which most cases lack controls, in words."""
    table = people.table.iloc[short]
    band = (table["age"] // settings.age_band * settings.age_band).astype(int)
    cells = table[list(settings.exact)].astype(str).agg(", ".join, axis=1) if settings.exact else ""
    names = cells + ", " + band.astype(str) + "–" + (band + settings.age_band).astype(int).astype(str)
    worst = names.value_counts()
    return InputError(
        f"{len(short)} cases have fewer than {settings.ratio} controls in their reach; the cell that lacks most is "
        f"{worst.index[0]} years ({worst.iloc[0]} cases).",
        python="Widen calipers, lower ratio, or set drop_unmatched=True.",
        command="Widen --caliper, lower --ratio, or give --drop-unmatched.",
    )


def _by_frequency(people: People, settings: MatchSettings) -> dict[int, list[int]]:
    """Controls of every cell drawn at random; within it they are dealt out to the cases at random."""
    rng = np.random.default_rng(settings.seed)
    case, keys = people.case, _keys(people, settings)
    band = (people.table["age"].to_numpy(float) // settings.age_band).astype(int)
    found: dict[int, list[int]] = {}
    short: list[int] = []
    for key, b in sorted(set(zip(keys[case], band[case]))):
        cell: Bools = (keys == key) & (band == b)
        cases, pool = (
            rng.permutation(np.flatnonzero(case & cell)),
            rng.permutation(np.flatnonzero(~case & cell)),
        )
        served = min(len(cases), len(pool) // settings.ratio)
        short += list(cases[served:])
        dealt = pool[: served * settings.ratio].reshape(served, settings.ratio)
        found |= {int(c): [int(c), *map(int, row)] for c, row in zip(cases, dealt)}
    if short and not settings.drop_unmatched:
        raise _shortage(people, settings, np.array(short))
    return dict(sorted(found.items()))


def open_match(folder: str | Path, photos: str | Path | None = None) -> Matched:
    """Read what :meth:`Matched.save` has written.

    Parameters
    ----------
    folder : str or Path
    photos : str or Path, optional
        Folder of the photographs.

    Raises
    ------
    InputError
        If it is no matched study, or was written by another version.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{folder} holds no matched study ({RECORD} cannot be read): match cases and controls first.",
            command="Give the folder that `stylegan-surv classify match` has written.",
        ) from fault
    check_format(record.get("format"), FORMAT, folder / RECORD, "Match cases and controls again.")
    people = read_people(folder / TABLE, photos)
    people.table["set"] = people.table["set"].astype(int)
    given = record["settings"]
    settings = MatchSettings(**{**given, "exact": tuple(given["exact"]), "ages": tuple(given["ages"])})
    rows = tuple(
        BalanceRow(row["name"], *(_number(row[name]) for name in ("case", "before", "after")))
        for row in record["balance"]
    )
    return Matched(people, rows, settings, tuple(record["unmatched"]), record["outside"])


def _number(value: float | None) -> float:
    """A number that JSON could not hold was written as null."""
    return float("nan") if value is None else value
