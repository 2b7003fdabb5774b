"""Errors that are the user's to mend; the command line prints them as one message and exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what is wrong, what was found, what is expected and what to do next.
    """


class Refused(InputError):
    """A file or a request that is well-formed but not accepted (unsafe, unsupported, leaking)."""
