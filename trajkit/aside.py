"""What becomes of one of many that cannot be used: it is set aside with its reason, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from trajkit.errors import InputError, WriteError

T = TypeVar("T")


@contextmanager
def aside(one: T, set_aside: Callable[[T, InputError], None] | None) -> Iterator[None]:
    """Inside the block, an InputError ends it, and is told to `set_aside` with the `one` that it is about.

    Raises it where there is no set_aside. A WriteError is about the disk, and raised always.
    """
    try:
        yield
    except WriteError:
        raise
    except InputError as error:
        if set_aside is None:
            raise
        set_aside(one, error)
