"""Digits: no image of one is in two splits."""

from __future__ import annotations

import pytest

from trajkit.demo.digits import SPLITS, glyphs


def test_every_digit_image_belongs_to_exactly_one_split():
    seen = [image.tobytes() for split in SPLITS for image in glyphs(split).images]
    assert len(seen) == 1797
    train, validation, test = ({image.tobytes() for image in glyphs(split).images} for split in SPLITS)
    assert not train & test
    assert not validation & (train | test)
    assert all(len(rows) > 10 for split in SPLITS for rows in glyphs(split).by_digit)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of"):
        glyphs("holdout")  # type: ignore[arg-type]
