"""Regions: a partition of an image into connected sets of pixels.

Semantic regions come from Ward linkage over patch features with 4-neighbour connectivity; how many is read off the
merge distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.demo.paths import MODEL as _DEMO_MODEL
from trajkit.errors import InputError
from trajkit.traces.boxes import boxes_of
from trajkit.vlm.canvas import Canvas, Images, opened_all

if TYPE_CHECKING:
    from trajkit.vlm.model import VLM

METHODS = ("vision", "dinov3", "blocks", "voronoi")


@dataclass(frozen=True, eq=False)
class Regions:
    """A partition of an image.

    labels: (H, W) integers in 0..k-1, each value in use. k: how many regions. method: how they were made.
    Raises InputError when a label is negative, missing or not below k.

    See also: `segment`.

    >>> halves = np.zeros((64, 64), int)
    >>> halves[:, 32:] = 1
    >>> tk.Regions(halves, k=2, method="by hand").k
    2
    >>> tk.Regions(halves, k=3)
    Traceback (most recent call last):
        ...
    trajkit.errors.InputError: a label map must be (H, W) and use every label 0..2; got shape (64, 64) ...
    """

    labels: NDArray[np.integer[Any]]
    k: int
    method: str = ""

    def __post_init__(self) -> None:
        least, most = self.labels.min(initial=0), self.labels.max(initial=0)
        whole = self.labels.ndim == 2 and np.issubdtype(self.labels.dtype, np.integer)
        in_range = whole and least >= 0 and most < self.k
        if not in_range or not np.bincount(self.labels.ravel(), minlength=self.k).all():
            raise InputError(
                f"a label map must be (H, W) and use every label 0..{self.k - 1}; got shape {self.labels.shape} "
                f"with {len(np.unique(self.labels))} labels from {least} to {most}."
            )

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"Regions({self.k} regions of {width} × {height} pixels{f', {self.method}' if self.method else ''})"

    def _repr_html_(self) -> str:
        from trajkit.notebook.regions import regions_html

        return regions_html(self)

    @cached_property
    def boxes(self) -> list[list[int]]:
        """[left, top, right, bottom] of each region, pixels, right and bottom being the first outside."""
        return boxes_of(self.labels, self.k)

    @cached_property
    def middles(self) -> list[list[int]]:
        """[x, y] of a pixel in each region, the one nearest to the mean of its pixels."""
        y, x = np.indices(self.labels.shape).reshape(2, -1)
        region = self.labels.ravel()
        n = np.bincount(region)
        away = sum((one - (np.bincount(region, one) / n)[region]) ** 2 for one in (x, y))
        nearest = np.lexsort((away, region))
        first = nearest[np.searchsorted(region[nearest], np.arange(self.k))]
        return np.stack([x[first], y[first]], axis=1).tolist()


def segment(
    images: Images, method: str = "vision", k: tuple[int, int] = (16, 128), *, vlm: VLM | None = None, seed: int = 0
) -> Regions:
    """Partition an image into regions, or several images of one prompt into regions of their common canvas.

    method: `vision` clusters the features of `vlm`'s own vision tower (the demo model's when no `vlm` is given);
    `dinov3` those of DINOv3, `dinov3:SOURCE` of another checkpoint of it, a folder or a hub id; `blocks` is a regular
    grid, `voronoi` the cells of random points (`seed`), both at the most regions that `k` allows. k: the fewest and the
    most regions of all images together, clipped to the number of patches; each image has at least one.
    Raises InputError for an unknown method or k, or what is no image.

    See also: `Regions`, `stream`.

    >>> regions = tk.segment(image, "blocks", k=(36, 36))
    >>> regions.k, regions.labels.shape
    (36, (192, 192))
    >>> tk.segment(image, "vision", vlm=vlm).k  # along what is in the image
    22
    """
    canvas = Canvas(opened_all(images))
    check_method(method)
    if not isinstance(k, Sequence) or len(k) != 2 or not 1 <= k[0] <= k[1]:
        raise InputError(f"k must be (fewest, most) with 1 ≤ fewest ≤ most; got {k}.")
    n = len(canvas.images)
    if not n:
        raise InputError("there is no image to segment; give one, or several in a list.")
    shares = [
        (max(k[0] * (i + 1) // n - k[0] * i // n, 1), max(k[1] * (i + 1) // n - k[1] * i // n, 1)) for i in range(n)
    ]
    sizes = [(image.height, image.width) for image in canvas.images]
    if method in ("vision", "dinov3") or method.startswith("dinov3:"):
        features = _tower_features(vlm or _demo_vlm(), canvas) if method == "vision" else _dino(method, canvas, vlm)
        maps = [
            _upsample(cluster(f, grid, share), size)
            for (f, grid), size, share in zip(features, sizes, shares, strict=True)
        ]
    else:
        make = _blocks if method == "blocks" else partial(_voronoi, seed=seed)
        maps = [_compact(make(size, share)) for size, share in zip(sizes, shares, strict=True)]
    labels = canvas.join(maps)
    return Regions(labels, int(labels.max()) + 1, method)


def check_method(method: str) -> None:
    """Raise InputError unless `segment` knows this method."""
    if method not in METHODS and not str(method).startswith("dinov3:"):
        raise InputError(f"regions must come from one of {', '.join(METHODS)} or dinov3:SOURCE; got {method!r}.")


def cluster(features: NDArray[np.float32], grid: tuple[int, int], k: tuple[int, int]) -> NDArray[np.int64]:
    """Ward clusters of (N, D) patch features on a (rows, cols) grid: (rows, cols) labels.

    The number of clusters within `k` is where merging one more pair costs the largest jump in Ward distance.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.image import grid_to_graph

    low, high = min(k[0], len(features)), min(k[1], len(features))
    if high == len(features) == low:
        return np.arange(len(features)).reshape(grid)
    standard = (features - features.mean(0)) / (features.std(0) + 1e-6)
    ward = AgglomerativeClustering(
        n_clusters=low,
        linkage="ward",
        connectivity=grid_to_graph(*grid),
        compute_distances=True,
        compute_full_tree=True,
    ).fit(standard)
    chosen = _choose_k(np.maximum.accumulate(ward.distances_), len(features), low, high)
    return _in_reading_order(_cut(ward.children_, len(features), chosen).reshape(grid))


def _cut(children: NDArray[np.integer[Any]], n: int, k: int) -> NDArray[np.int64]:
    """(n,) cluster of each leaf when the first n − k merges of a tree are made. children: (n − 1, 2), as sklearn's."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    merged = children[: n - k]
    parents = np.repeat(np.arange(n, n + len(merged)), 2)
    edges = coo_array((np.ones(len(parents)), (merged.ravel(), parents)), shape=(2 * n - k, 2 * n - k))
    return connected_components(edges, directed=False)[1][:n]


def _choose_k(distances: NDArray[np.float64], n: int, low: int, high: int) -> int:
    """The count in [low, high] with the largest jump from the merge that leads to it to the next one."""
    counts = np.arange(low, min(high, n - 1) + 1)
    into, beyond = distances[np.maximum(n - counts - 1, 0)], distances[np.minimum(n - counts, n - 2)]
    return int(counts[np.argmax(beyond - into)])


def _in_reading_order(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Renumber so that labels appear in increasing order when read row by row."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].reshape(labels.shape)


def _compact(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Renumber so that every number up to the largest is in use, in the same order."""
    return (np.cumsum(np.bincount(labels.ravel()) > 0) - 1)[labels]


def _upsample(labels: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    rows = ((np.arange(size[0]) + 0.5) * labels.shape[0] / size[0]).astype(int)
    cols = ((np.arange(size[1]) + 0.5) * labels.shape[1] / size[1]).astype(int)
    return _compact(labels[rows[:, None], cols])


def _blocks(size: tuple[int, int], k: tuple[int, int]) -> NDArray[np.int64]:
    """A grid of at least k[0] and at most k[1] blocks, as square as that allows."""
    rows = np.arange(1, min(k[1], size[0]) + 1)
    cols = np.minimum(k[1] // rows, size[1])
    enough = rows * cols >= min(k[0], (rows * cols).max())
    slender = np.abs(np.log((size[0] / rows) / (size[1] / cols)))
    best = np.argmin(np.where(enough, slender, np.inf))
    return _upsample(np.arange(rows[best] * cols[best]).reshape(rows[best], cols[best]), size)


def _voronoi(size: tuple[int, int], k: tuple[int, int], seed: int) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    pixels = np.indices(size).reshape(2, -1).T
    points = pixels[rng.choice(len(pixels), min(k[1], len(pixels)), replace=False)]
    return cKDTree(points).query(pixels)[1].reshape(size)


def _tower_features(vlm: VLM, canvas: Canvas) -> list[tuple[NDArray[np.float32], tuple[int, int]]]:
    """For each image: (rows·cols, D) features of its tokens, and (rows, cols)."""
    return [(features.float().cpu().numpy(), grid) for features, grid in vlm.image_features(canvas.images)]


def _dino(method: str, canvas: Canvas, vlm: VLM | None) -> list[tuple[NDArray[np.float32], tuple[int, int]]]:
    """As `_tower_features`, of the DINOv3 that the method names, on the device of `vlm`."""
    from trajkit.attribution.dinov3 import DEFAULT, load_dinov3

    dino = load_dinov3(
        method.removeprefix("dinov3").removeprefix(":") or DEFAULT, str(vlm.model.device) if vlm else "cpu"
    )
    return [dino.features(image) for image in canvas.images]


@cache
def _demo_vlm() -> VLM:
    from trajkit.vlm.load import load_vlm

    if not _DEMO_MODEL.exists():
        raise InputError("segment(method='vision') needs a model here: pass vlm=tk.load_vlm(...).")
    return load_vlm(_DEMO_MODEL)
