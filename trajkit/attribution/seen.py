"""Which images an estimator was made with: hashes of their pixels, kept on its card.

An evaluation on images that it was trained on flatters it. Copies of a file are the same image; one that was resized or
compressed again is another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from trajkit.attribution.item import Item
from trajkit.vlm.canvas import Images, opened_all

IMAGES_TRAINED_ON, IMAGES_HELD_OUT = "images_trained_on", "images_held_out"
"""Entries of an estimator's card: sorted hashes."""


def image_hash(image: Image.Image) -> str:
    """12 hex digits of the SHA-256 of an image's size and RGB pixels."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width} {rgb.height}\0".encode() + rgb.tobytes()).hexdigest()[:12]


@dataclass
class Seen:
    """Images by their hash, each with the groups that it came under."""

    groups: dict[str, set[str]] = field(default_factory=dict)

    def add(self, images: Images, group_id: str) -> None:
        for image in opened_all(images):
            self.groups.setdefault(image_hash(image), set()).add(group_id)

    def watching(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, their images added as they pass."""
        for item in items:
            self.add(item.image, item.group_id)
            yield item

    def of(self, groups: set[str]) -> list[str]:
        """Sorted hashes of the images that came under any of these groups."""
        return sorted(image for image, own in self.groups.items() if own & groups)


def warnings(seen: Seen, card: Mapping[str, Any]) -> list[str]:
    """What makes figures on these images too good or too sure, given the card of the estimator; a sentence each."""
    n, found = len(seen.groups), []
    trained = card.get(IMAGES_TRAINED_ON)
    if trained is None:
        found.append(
            "this estimator does not say which images it was trained on; make sure that these are others, or figures "
            "on them are too good."
        )
    elif known := seen.groups.keys() & set(trained):
        found.append(
            f"{len(known)} of {n} images are among those that the estimator was trained on: figures on them are too "
            "good. Evaluate on other images."
        )
    if doubled := sum(len(own) > 1 for own in seen.groups.values()):
        found.append(
            f"{doubled} of {n} images came under several groups, as if they were different ones: intervals are too "
            "narrow. Give questions about one image one group_id."
        )
    return found
