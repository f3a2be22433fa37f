"""Errors that a user can act on. Each message says what was expected, what came, and what to do."""

from __future__ import annotations

from traceback import format_tb
from typing import TypeVar

Caught = TypeVar("Caught", bound=BaseException)


class TrajkitError(Exception):
    """Base of every error that trajkit raises on purpose; the command line prints it as one line and exits with 1."""


class InputError(TrajkitError, ValueError):
    """A value, file or folder given by the user cannot be used."""


class WriteError(InputError):
    """A file or folder cannot be written: a full disk, a missing permission. What was written before is intact."""


class TraceFormatError(InputError):
    """A trace file does not hold what the Trace schema says."""


class UnsupportedModelError(InputError):
    """The model's architecture has no adapter."""


class EstimatorMismatchError(InputError):
    """An estimator or detector was made for something else than what it is used on."""


class StreamError(TrajkitError, RuntimeError):
    """Attribution failed while a model was generating; the run was stopped."""


def untraced(error: Caught) -> Caught:
    """An error that is to be kept, with its traceback as a note: a traceback holds all that was in use where it was
    raised, and in the calls that led there, such as the keys of a run."""
    error.add_note("".join(format_tb(error.__traceback__)))
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error
