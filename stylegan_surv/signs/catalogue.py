"""The signs by name.

Strengths are per SD of dose: two are plain to a clinician who looks for the sign, three are severe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stylegan_surv.signs import colour, hair, shape
from stylegan_surv.signs.change import Change
from stylegan_surv.signs.face import PaintedFace


@dataclass(frozen=True)
class Sign:
    """One clinical sign.

    Attributes
    ----------
    name : str
    more, less : str
        What a positive and a negative dose look like.
    where : str
        The region that it stands in.
    change : callable
        Gives the change of a face per SD.
    """

    name: str
    more: str
    less: str
    where: str
    change: Callable[[PaintedFace], Change]


_ALL = (
    Sign("pallor", "paler skin and lips", "ruddier skin and lips", "face, lips and neck", colour.pallor),
    Sign("jaundice", "yellower skin and eyes", "less yellow skin and eyes", "face, neck and eyes", colour.jaundice),
    Sign("wasting", "thinner in temples and cheeks", "fuller in temples and cheeks", "temples to jaw", shape.wasting),
    Sign("shadow", "darker below the eyes", "lighter below the eyes", "lower lids to orbital rims", colour.shadow),
    Sign("oedema", "more swollen lids and face", "less swollen lids and face", "lids and cheeks", shape.oedema),
    Sign("droop", "one corner of the mouth lower", "one corner of the mouth higher", "one half of the face",
    shape.droop),
    Sign("thinning", "thinner hair", "denser hair", "hairline and crown", hair.thinning),
    Sign("moon", "rounder, redder lower face", "narrower lower face", "cheeks and jaw", shape.moon),
    Sign("brows", "sparser eyebrows", "denser eyebrows", "eyebrows", hair.brows),
)  # fmt: skip
SIGNS: Mapping[str, Sign] = MappingProxyType({sign.name: sign for sign in _ALL})
