"""The bundled networks: what each is, whom it has seen, how good it is. All read from the files' own cards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylegan_surv.errors import InputError
from stylegan_surv.gan.formats.checkpoint import DATA, read_card

PARTS = {"": "generator", ".encoder": "encoder", ".discriminator": "discriminator"}


@dataclass(frozen=True)
class Entry:
    """One bundled network.

    Attributes
    ----------
    name : str
        What ``load_generator`` takes.
    kind : str
        ``generator``, ``encoder`` or ``discriminator``.
    file : Path
    sha256 : str
        Its hash.
    megabytes : float
        Its size.
    card : dict
        The whole card; the most asked-for fields are properties.
    """

    name: str
    kind: str
    file: Path
    sha256: str
    megabytes: float
    card: dict[str, Any]

    @property
    def licence(self) -> str:
        """Under which it may be used."""
        return str(self.card.get("licence", "not stated"))

    @property
    def data(self) -> str:
        """What it was trained on."""
        return str(self.card.get("data", "not stated"))

    @property
    def resolution(self) -> int:
        """Side of its images, in pixels."""
        return int(self.card["config"]["resolution"])

    @property
    def measures(self) -> dict[str, Any]:
        """How good it is, as measured when it was published; empty where nothing was."""
        return dict(self.card.get("measures") or {})

    @property
    def seen(self) -> str:
        """Whom it has seen, in words."""
        provenance = self.card.get("provenance") or {}
        people = len(provenance.get("patients", ()))
        words = {"synthetic": "no real person", "photographs": f"{people} people"}
        return words.get(str(provenance.get("kind")), "unknown")


def entries() -> Iterator[Entry]:
    """All bundled networks, in order of name."""
    for path in sorted(DATA.glob("*.safetensors")):
        card = read_card(path)
        kind = card.get("kind")
        if kind in PARTS.values():
            name = path.name.removesuffix(".safetensors").removesuffix(f".{kind}")
            yield Entry(name, str(kind), path, card["sha256"], path.stat().st_size / 1e6, card)


def entry(name: str, kind: str = "generator") -> Entry:
    """The bundled network of this name.

    Raises
    ------
    InputError
        If there is none; the message names those that there are.
    """
    found = {(e.name, e.kind): e for e in entries()}
    if (name, kind) not in found:
        there = ", ".join(n for n, k in found if k == kind)
        raise InputError(f"no bundled {kind} {name!r}; there are: {there or 'none'}")
    return found[name, kind]
