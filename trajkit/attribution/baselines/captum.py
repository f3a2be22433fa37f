"""captum, an optional dependency, imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trajkit.errors import InputError


def captum_attr() -> Any:
    """The module `captum.attr`. Raises InputError with the install command when captum is missing."""
    try:
        return import_module("captum.attr")
    except ModuleNotFoundError as error:
        raise InputError("this baseline needs captum; install it: pip install 'trajkit[baselines]'") from error
