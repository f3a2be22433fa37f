"""Errors that a user can act on. Each message says what was expected, what came, and what to do."""

from __future__ import annotations


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
