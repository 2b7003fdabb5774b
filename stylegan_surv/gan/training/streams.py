"""Random numbers of a run: named streams, each keyed by the run's seed alone and by what is drawn.

Nothing is left to torch's global stream as a process finds it: two processes of one command begin, go on and end with
the same numbers, and so does a run that was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

# the second number of a key; micro-batches count from 0
_AVERAGING, _MAPPING_FIT, _CRITIC_HEADS = -1, -2, -3


def key(*numbers: int) -> int:
    """A 63-bit random seed that is a function of ``numbers``."""
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Streams:
    """The seeds of a run's streams.

    Attributes
    ----------
    seed : int
        The run's own.
    """

    seed: int

    @property
    def networks(self) -> int:
        """First weights of networks that are not loaded."""
        return self.seed

    @property
    def critic_heads(self) -> int:
        """First weights and fixed projections of the feature critic."""
        return key(self.seed, _CRITIC_HEADS)

    @property
    def mapping_fit(self) -> int:
        """Latents on which a mapping is fitted before the first step."""
        return key(self.seed, _MAPPING_FIT)

    def micro_batch(self, number: int) -> int:
        """All that is drawn in micro-batch ``number`` of the run, counted from 0."""
        return key(self.seed, number)

    def averaging(self, step: int) -> int:
        """Latents whose mean style moves the point of truncation."""
        return key(self.seed, _AVERAGING, step)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Torch's global stream on the CPU begins at ``seed`` inside, and goes on outside as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
