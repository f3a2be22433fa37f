"""Several images of one prompt share one canvas and one label map, and come apart again."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trajkit.vlm.canvas import Canvas

RED, BLUE = Image.new("RGB", (3, 2), "red"), Image.new("RGB", (2, 4), "blue")


def test_one_image_is_its_own_canvas():
    assert Canvas((RED,)).picture is RED


def test_images_stand_side_by_side_and_crops_give_them_back():
    canvas = Canvas((RED, BLUE))
    assert canvas.picture.size == (5, 4)
    for crop, image in zip(canvas.crops(np.asarray(canvas.picture)), (RED, BLUE), strict=True):
        np.testing.assert_array_equal(crop, np.asarray(image))


def test_labels_of_a_later_image_are_counted_on():
    first, second = np.array([[0, 1, 1], [0, 0, 2]]), np.array([[0, 0]] * 4)
    joined = Canvas((RED, BLUE)).join([first, second])
    assert joined.shape == (4, 5)
    np.testing.assert_array_equal(Canvas((RED, BLUE)).crops(joined)[0], first)
    assert set(joined[:, 3:].ravel()) == {3}
    np.testing.assert_array_equal(np.unique(joined), np.arange(4))
