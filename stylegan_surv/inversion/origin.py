"""Where a latent comes from: networks, settings, how the face was cut. The one place where hashes are compared.

No torch is imported, so that whoever reads a dataset or a model can ask whether two things belong together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from string import hexdigits
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stylegan_surv import __version__
from stylegan_surv._records import first_fault
from stylegan_surv._types import Array
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion.settings import Method, Schedule, Settings

FORMAT = 1  # of `_latents.json` and the shards beside it
# What makes two latents comparable: the same coordinates, seen by the same encoder.
SPACE = ("generator_sha256", "encoder_sha256", "num_ws", "w_dim")
# What makes two runs the same run; anything else in the metadata may differ between sessions.
IDENTITY = (*SPACE[:2], "start_sha256", *SPACE[2:], "method", "settings")
CUT = "chips"  # the metadata's name of how faces were cut
MOST = 32_768  # layers or numbers of a latent; Arrow counts a row's in 31 bits
SHA256 = 64  # digits
SHOWN = 12  # digits of a hash that a message shows
Role = Literal["generator", "encoder"]


class Net(Protocol):
    """A generator or an encoder: what its file says of it, and its weights."""

    card: dict[str, Any]

    def state_dict(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Network:
    """A network's name and the SHA-256 of the file it came from; None where it is not known."""

    name: str | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, net: Net) -> Network:
        """Name and hash of a network that is loaded."""
        name = net.card.get("name")
        return cls(None if name is None else str(name), network_sha256(net))


@dataclass(frozen=True)
class Origin:
    """Where latents come from.

    Attributes
    ----------
    num_ws, w_dim : int
        Layers and width of a latent.
    generator : Network
    encoder : Network, optional
        None where no encoder took part.
    method : str, optional
        A method of :data:`stylegan_surv.inversion.settings.METHODS`, or what another program calls its own.
    settings : Settings, optional
        None where the latents were not made by ``embed``.
    cut : mapping, optional
        How the faces were cut, as the chips' folder says; None where they were not aligned from photographs.
    provenance : mapping, optional
        Whom the networks had seen, by role.
    start_sha256 : str, optional
        Hash of the latents that the projector began from, where it began from given ones.
    noise : int
        Numbers of optimised noise maps beside each latent.
    version : str
        Of the package that made them.
    format : int
        Of the dataset's files.
    survival_ws : int, optional
        Of the layers, those that a survival model reads, where it does not read all: the layers of a block that was
        grown on top of a finished generator repeat w.
    """

    num_ws: int
    w_dim: int
    generator: Network = Network()
    encoder: Network | None = None
    method: str | None = None
    settings: Settings | None = None
    cut: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None
    start_sha256: str | None = None
    noise: int = 0
    version: str = __version__
    format: int = FORMAT
    survival_ws: int | None = None

    def to_metadata(self) -> dict[str, Any]:
        """The dataset's metadata, as JSON can hold them; what is not known is left out."""
        named = {"generator": self.generator, **({"encoder": self.encoder} if self.encoder else {})}
        record: dict[str, Any] = {"num_ws": self.num_ws, "w_dim": self.w_dim}
        record |= {role: net.name for role, net in named.items()}
        record |= {f"{role}_sha256": net.sha256 for role, net in named.items() if net.sha256}
        known = {
            "survival_ws": self.survival_ws,
            "start_sha256": self.start_sha256,
            "noise": self.noise or None,
            "method": self.method,
            "settings": None if self.settings is None else asdict(self.settings),
            CUT: None if self.cut is None else dict(self.cut),
            "provenance": None if self.provenance is None else dict(self.provenance),
        }
        record |= {name: value for name, value in known.items() if value is not None}
        return {**record, "version": self.version, "format": self.format}

    @classmethod
    def from_metadata(cls, record: Any, where: str = "the latents' metadata") -> Origin:
        """Read what :meth:`to_metadata` has written.

        Parameters
        ----------
        record : mapping
            At least ``num_ws`` and ``w_dim``; latents from elsewhere know no more.
        where : str
            What to call it in a message.

        Raises
        ------
        InputError
            If something is missing or of another kind than it should be.
        """
        try:
            stored = _Metadata.model_validate(record)
            settings = None if stored.settings is None else Settings(**_plain(stored.settings))
        except ValidationError as wrong:
            raise InputError(f"{where}: {first_fault(wrong)}. Embed the photographs again.") from wrong
        uses_encoder = stored.encoder is not None or stored.encoder_sha256 is not None
        return cls(
            num_ws=stored.num_ws,
            w_dim=stored.w_dim,
            survival_ws=stored.survival_ws,
            generator=Network(stored.generator, stored.generator_sha256),
            encoder=Network(stored.encoder, stored.encoder_sha256) if uses_encoder else None,
            method=stored.method,
            settings=settings,
            cut=stored.chips,
            provenance=stored.provenance,
            start_sha256=stored.start_sha256,
            noise=stored.noise,
            version=stored.version,
            format=stored.format,
        )

    def with_cut(self, cut: Mapping[str, Any] | None) -> Origin:
        """The same, of chips that were cut so."""
        return replace(self, cut=cut)

    def differences(
        self, other: Origin, names: Sequence[str] = IDENTITY, *, lenient: bool = False
    ) -> list[str]:
        """What differs, in words: ``seed = 0, not 1``.

        Parameters
        ----------
        other : Origin
        names : sequence of str
            Names of the metadata to compare: :data:`IDENTITY`, :data:`SPACE` or ``("chips",)``.
        lenient : bool
            What only one of them knows is no difference.
        """
        mine, theirs = self.to_metadata(), other.to_metadata()
        found = []
        for name in names:
            a, b = mine.get(name), theirs.get(name)
            if a == b or (lenient and (a is None or b is None)):
                continue
            if isinstance(a, Mapping) and isinstance(b, Mapping):
                found += [
                    f"{key} = {a.get(key)}, not {b.get(key)}"
                    for key in {**a, **b}
                    if a.get(key) != b.get(key)
                ]
            else:
                found.append(f"{name} = {_shown(a)}, not {_shown(b)}")
        return found

    def check_same(
        self,
        other: Origin,
        said: str,
        remedy: str,
        *,
        names: Sequence[str] = IDENTITY,
        lenient: bool = False,
    ) -> None:
        """Refuse another origin with one message: ``{said} {differences}. {remedy}``.

        Parameters
        ----------
        other : Origin
            What is to be of the same origin.
        said : str
            How the message begins, such as "latents/ was begun with".
        remedy : str
            What to do, a whole sentence.
        names : sequence of str
            As in :meth:`differences`.
        lenient : bool, default False
            As in :meth:`differences`.

        Raises
        ------
        Refused
            If they differ.
        """
        if found := self.differences(other, names, lenient=lenient):
            raise Refused(f"{said} {', '.join(found)}. {remedy}")

    def check_networks(self, generator: Net, encoder: Net | None, said: str, remedy: str) -> None:
        """Refuse networks that are not those of the latents: ``{said} another generator (…). {remedy}``."""
        check_network("generator", generator, self.generator.sha256, said, remedy)
        if encoder is not None and self.encoder is not None:
            check_network("encoder", encoder, self.encoder.sha256, said, remedy)


def check_comparable(fitted: Origin, given: Origin) -> None:
    """Refuse latents of other networks than those that a model was fitted to; what is not known fits any.

    Parameters
    ----------
    fitted : Origin
        Of the latents that the model was fitted to.
    given : Origin
        Of the latents that it is to score.

    Raises
    ------
    Refused
        If generator, encoder or shape differ.
    """
    fitted.check_same(
        given,
        "The model was fitted to latents with",
        "Embed the photographs with the networks that the model was fitted with.",
        names=SPACE,
        lenient=True,
    )


def _shown(value: Any) -> Any:
    """A hash by its first digits, everything else as it is."""
    is_hash = isinstance(value, str) and len(value) == SHA256 and set(value) <= set(hexdigits)
    return f"{value[:SHOWN]}…" if is_hash else value


def check_network(role: Role, net: Net, sha256: str | None, said: str, remedy: str) -> None:
    """Refuse a network whose hash is another than ``sha256``; one that is not known fits any."""
    got = network_sha256(net)
    if sha256 not in (None, got):
        raise Refused(
            f"{said} another {role} (SHA-256 {str(sha256)[:SHOWN]}…; this one has {got[:SHOWN]}…). {remedy}"
        )


def network_sha256(net: Net) -> str:
    """SHA-256 of the file a network came from, or of its weights where it has none."""
    known = net.card.get("sha256")
    if known:
        return str(known)
    return arrays_sha256({name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()})


def arrays_sha256(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of named arrays, whatever their order."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


class _Settings(BaseModel):
    """:class:`Settings` as a file holds them; what is missing has its default."""

    model_config = ConfigDict(extra="forbid")
    method: Method = "hybrid"
    batch: int = Field(default=Settings.batch, ge=1)
    seed: int = 0
    passes: int = Field(default=0, ge=0)
    schedule: Schedule | None = None
    perceptual: str = "alex"
    identity: bool = False
    label: int | None = None


class _Metadata(BaseModel):
    """``_latents.json``; other entries are the user's own."""

    num_ws: int = Field(ge=1, le=MOST)
    w_dim: int = Field(ge=1, le=MOST)
    survival_ws: int | None = Field(default=None, ge=1, le=MOST)
    generator: str | None = None
    generator_sha256: str | None = None
    encoder: str | None = None
    encoder_sha256: str | None = None
    start_sha256: str | None = None
    noise: int = Field(default=0, ge=0, le=MOST**2)
    method: str | None = None
    settings: _Settings | None = None
    chips: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    columns: dict[str, str] = {}
    version: str = __version__
    format: int = FORMAT


def _plain(settings: _Settings) -> dict[str, Any]:
    """The fields, with the schedule as the dataclass that it is."""
    return {name: getattr(settings, name) for name in type(settings).model_fields}
