"""Models as files name them: whether two are the same one, and what to say where their fingerprints differ."""

from __future__ import annotations

import re
from typing import NamedTuple

WAY = 1
"""The way in which `vlm.fingerprint` makes them; one more whenever the same model would get another fingerprint."""
_NUMBERED = re.compile(r"w(\d+)-")


class ModelId(NamedTuple):
    """name: of a folder or hub, "" where it is not known. fingerprint: of its weights, "" where it is not known."""

    name: str
    fingerprint: str = ""

    def is_same(self, other: ModelId) -> bool:
        """Whether both are one model: by fingerprints where both are known, whatever the names; by names otherwise."""
        if self.fingerprint and other.fingerprint:
            return self.fingerprint == other.fingerprint
        return self.name == other.name

    def difference(self, ours: ModelId) -> str:
        """A sentence, after a space, on why this model, which was read, is not ours, where more can be said (see
        `difference`)."""
        if not (self.fingerprint and ours.fingerprint):
            return ""
        return difference(self.fingerprint, ours.fingerprint, self.name == ours.name)


def stamped(digest: str, way: int = WAY) -> str:
    """A digest with the number of its way; those of the first way bear none."""
    return digest if way == 1 else f"w{way}-{digest}"


def difference(theirs: str, ours: str, same_name: bool) -> str:
    """A sentence, after a space, on why two fingerprints differ, where more can be said than that these are two models.

    theirs: of what was read. ours: of the model in use. same_name: whether both may be of one name.
    """
    made, used = _way(theirs), _way(ours)
    if made != used:
        older = "an older" if made < used else "a newer"
        return f" It was made with {older} trajkit that tells models apart in another way, so these may be the same."
    if same_name:
        return (
            " If one model is meant, its weights or settings were changed since, or an older trajkit made this, which "
            "told models apart in another way."
        )
    return ""


def _way(fingerprint: str) -> int:
    found = _NUMBERED.match(fingerprint)
    return int(found[1]) if found else 1
