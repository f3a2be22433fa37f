"""Images are told by their pixels: those that an estimator was trained on, and those that came twice."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trajkit.attribution.item import Item
from trajkit.attribution.seen import IMAGES_TRAINED_ON, Seen, image_hash, warnings

RNG = np.random.default_rng(0)
PICTURES = [Image.fromarray(RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(4)]


def seen(*groups: str) -> Seen:
    """The first pictures, one under each group."""
    found = Seen()
    for picture, group in zip(PICTURES, groups, strict=False):
        found.add(picture, group)
    return found


def test_a_hash_tells_pixels_and_size_and_not_the_mode():
    one = PICTURES[0]
    assert image_hash(one) == image_hash(one.copy()) == image_hash(one.convert("RGBA"))
    assert len(image_hash(one)) == 12
    assert image_hash(one) != image_hash(one.transpose(Image.Transpose.ROTATE_180))
    blank = Image.new("RGB", (20, 30))
    assert image_hash(blank) != image_hash(Image.new("RGB", (30, 20)))


def test_images_that_it_was_trained_on_are_counted():
    card = {IMAGES_TRAINED_ON: [image_hash(PICTURES[0]), image_hash(PICTURES[3])]}
    (told,) = warnings(seen("a", "b", "c"), card)
    assert told.startswith("1 of 3 images are among those that the estimator was trained on: figures on them are too")
    assert warnings(seen("a", "b", "c"), {IMAGES_TRAINED_ON: [image_hash(PICTURES[3])]}) == []


def test_an_estimator_that_does_not_say_is_told():
    (told,) = warnings(seen("a"), {})
    assert "does not say which images it was trained on" in told


def test_an_image_under_several_groups_is_told_and_one_of_several_questions_is_not():
    twice, once = seen("a", "b"), seen("a", "b")
    twice.add(PICTURES[0], "other")
    once.add(PICTURES[0], "a")
    (told,) = warnings(twice, {IMAGES_TRAINED_ON: []})
    assert told.startswith("1 of 2 images came under several groups")
    assert warnings(once, {IMAGES_TRAINED_ON: []}) == []


def test_items_are_watched_as_they_pass():
    found = Seen()
    items = [Item("1", PICTURES[0], "?", "a"), Item("2", (PICTURES[1], PICTURES[2]), "?", "b")]
    assert list(found.watching(iter(items))) == items
    assert found.of({"b"}) == sorted(map(image_hash, PICTURES[1:3]))
