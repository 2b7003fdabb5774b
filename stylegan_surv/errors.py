"""Errors that are the user's to mend; the command line prints them as one message and exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what is wrong, what was found, what is expected and what to do next.

    Parameters
    ----------
    message : str
    python, command : str
        What to do next in Python and on the command line, where that differs.
    """

    def __init__(self, message: str, *, python: str = "", command: str = "") -> None:
        super().__init__(message)
        self.python, self.command = python, command

    def __str__(self) -> str:
        """The message as Python shows it."""
        return " ".join(filter(None, (super().__str__(), self.python)))

    def for_command_line(self) -> str:
        """The message as the command line prints it."""
        return " ".join(filter(None, (super().__str__(), self.command)))


class Refused(InputError):
    """A file or a request that is well-formed but not accepted (unsafe, unsupported, leaking)."""
