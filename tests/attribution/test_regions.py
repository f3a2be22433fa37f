"""Regions partition the image, are connected, and on a clean demo scene follow its digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label

import trajkit as tk
from tests.scenes import clean_scene
from trajkit.attribution.regions import Regions, _cut, cluster
from trajkit.demo.cells import CELL_PX
from trajkit.demo.grid import GRID
from trajkit.errors import InputError


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory):
    """A folder with a small DINOv3 of random weights: its patches still differ as their colours do."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    folder = tmp_path_factory.mktemp("dinov3")
    DINOv3ViTModel(DINOv3ViTConfig(**sizes, num_register_tokens=4)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["vision", "blocks", "dinov3"])
def test_regions_are_connected_and_use_every_label(demo_vlm, scene_image, dinov3, method):
    method = f"dinov3:{dinov3}" if method == "dinov3" else method
    regions = tk.segment(scene_image, method, (16, 36), vlm=demo_vlm)
    assert regions.labels.shape == (192, 192)
    for k in range(regions.k):
        assert label(regions.labels == k)[1] == 1


@pytest.mark.parametrize("size", [(256, 128), (90, 400)])
def test_dinov3_regions_follow_what_is_in_an_image_of_any_shape(dinov3, size):
    """A border in the lower right quarter is where a wrong order of patches would show."""
    width, height = size
    pixels = np.full((height, width, 3), (200, 30, 30), np.uint8)
    right, low = width * 3 // 4, height * 3 // 4
    pixels[low:, right:] = (30, 40, 220)
    labels = tk.segment(Image.fromarray(pixels), f"dinov3:{dinov3}", (2, 2)).labels
    blue = labels == labels[-1, -1]
    inside = np.zeros_like(blue)
    inside[low:, right:] = True
    assert (blue & inside).sum() / (blue | inside).sum() > 0.8


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "no model at 'nowhere'"), ("data/demo/model", "'qwen3_vl' and no DINOv3 vision transformer")],
)
def test_what_is_no_dinov3_is_refused(scene_image, source, message):
    with pytest.raises(InputError, match=message):
        tk.segment(scene_image, f"dinov3:{source}")


def test_voronoi_cells_cover_the_image_with_as_many_regions_as_asked(scene_image):
    regions = tk.segment(scene_image, "voronoi", (16, 40), seed=3)
    assert regions.k == 40


def test_a_region_of_a_clean_scene_is_usually_one_cell(demo_vlm):
    """Purity: the share of an image token's region that lies in the token's own 32-pixel cell."""

    rng, purity = np.random.default_rng(5), []
    cells = np.arange(GRID**2).reshape(GRID, GRID).repeat(CELL_PX, 0).repeat(CELL_PX, 1)
    for _ in range(8):
        labels = tk.segment(clean_scene(rng)[1], vlm=demo_vlm).labels
        joint = np.zeros((labels.max() + 1, GRID**2))
        np.add.at(joint, (labels.ravel(), cells.ravel()), 1)
        purity.append((joint.max(1)).sum() / joint.sum())
    assert np.mean(purity) > 0.85


def test_the_number_of_regions_is_clipped_to_what_was_asked_and_to_the_patches(demo_vlm, scene_image):
    assert tk.segment(scene_image, k=(20, 20), vlm=demo_vlm).k == 20
    assert tk.segment(scene_image, k=(100, 128), vlm=demo_vlm).k == 36


@pytest.mark.parametrize("method", ["vision", "blocks", "voronoi"])
def test_images_of_one_prompt_share_the_number_of_regions(demo_vlm, scene_image, method):
    assert tk.segment([scene_image] * 3, method, (10, 10), vlm=demo_vlm).k == 10


def test_nearly_as_many_regions_as_patches_can_be_asked_for():
    features = np.random.default_rng(0).normal(size=(144, 8)).astype(np.float32)
    assert cluster(features, (12, 12), (130, 140)).max() + 1 >= 130


def test_no_image_is_refused_and_a_grey_one_is_taken(demo_vlm, scene_image):
    with pytest.raises(InputError, match="no image to segment"):
        tk.segment([], "blocks")
    assert tk.segment(scene_image.convert("L"), vlm=demo_vlm).labels.shape == (192, 192)


@pytest.mark.parametrize("k", [1, 2, 7, 48])
def test_a_tree_is_cut_as_scikit_learn_cuts_it(k):
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.image import grid_to_graph
    from sklearn.metrics import adjusted_rand_score

    features = np.random.default_rng(0).normal(size=(48, 5))
    ward = AgglomerativeClustering(n_clusters=k, connectivity=grid_to_graph(6, 8), compute_full_tree=True).fit(features)
    labels = _cut(ward.children_, 48, k)
    assert len(np.unique(labels)) == k
    assert adjusted_rand_score(labels, ward.labels_) == 1


def test_the_largest_jump_in_merge_distance_decides_how_many():
    rng = np.random.default_rng(0)
    blobs = np.arange(36).reshape(6, 6).repeat(2, 0).repeat(2, 1)  # 36 flat patches of 2 × 2 on a 12 × 12 grid
    features = rng.normal(size=(36, 8))[blobs.ravel()] + rng.normal(scale=1e-3, size=(144, 8))
    labels = cluster(features.astype(np.float32), (12, 12), (16, 128))
    assert labels.max() + 1 == 36
    assert len(np.unique(labels * 36 + blobs)) == 36


def test_the_same_image_gives_the_same_regions(demo_vlm, scene_image):
    a, b = (tk.segment(scene_image, vlm=demo_vlm).labels for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("method", "k", "message"),
    [("watershed", (16, 64), "dinov3:SOURCE; got 'watershed'"), ("blocks", (9, 3), "k must be")],
)
def test_bad_arguments_are_refused(scene_image, method, k, message):
    with pytest.raises(InputError, match=message):
        tk.segment(scene_image, method, k)


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        ("no.png", "does not exist; expected an image file"),
        (np.zeros((8, 8, 3), np.uint8), "at least 16"),
        (3, "expected an image"),
    ],
)
def test_what_is_no_image_is_refused(thing, why):
    with pytest.raises(InputError, match=why):
        tk.segment([thing], "blocks")


def test_a_label_map_with_a_gap_is_refused():
    with pytest.raises(InputError, match=r"use every label 0\.\.2"):
        Regions(np.array([[0, 2]]), 3)


def test_the_middle_of_a_region_is_a_pixel_of_it_where_it_is_bent_too():
    labels = np.zeros((5, 5), int)
    labels[1:, 1:] = 1  # what is left of 0 is bent, and its mean is in 1
    regions = Regions(labels, 2)
    for region, (x, y) in enumerate(regions.middles):
        assert labels[y, x] == region
    assert regions.middles[1] in ([2, 2], [3, 2], [2, 3], [3, 3])


def test_boxes_hold_each_region_and_no_more():
    labels = np.array([[0, 0, 1], [2, 0, 1], [2, 2, 2]])
    assert Regions(labels, 3).boxes == [[0, 0, 2, 2], [2, 0, 3, 2], [0, 1, 3, 3]]
