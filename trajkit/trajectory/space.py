"""Spaces that effect vectors can be looked at in: a few principal axes, or a grid that all images share.

A path has the geometry of the space that it is measured in. Which one to take: effects themselves (nats per region) for
anything used online; `project` for pictures of one run, as its axes see the whole run; one `Space` for several runs of
one image; `on_grid` to compare runs on different images, whose regions have nothing to do with each other; and a
`Space` fitted on the grids of earlier runs for coordinates that are few, comparable, and known beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.geometry import Path, as_path


@dataclass(frozen=True, eq=False)
class Space:
    """Principal axes of effect vectors.

    n_regions: K. kept: (r,) the regions that enter, ascending. centre: (r,) nats. axes: (dims, r), orthonormal, in
    order of decreasing variance, each with its largest loading positive; zero where there are fewer. explained: (dims,)
    share of the variance of all K regions along each axis, in [0, 1]; 0 where nothing varies.

    See also: `project`, `on_grid`, `trajectory_3d`.

    >>> space = tk.trajectory.Space.fit(path, top=32)
    >>> space.explained.round(2)  # share of the variance that three axes show
    array([0.09, 0.08, 0.07])
    >>> space.transform(path).shape
    (34, 3)
    >>> tk.trajectory.Space.from_state(space.to_state()).n_regions  # kept as JSON
    35
    """

    n_regions: int
    kept: NDArray[np.int64]
    centre: Path
    axes: Path
    explained: Path

    @classmethod
    def fit(cls, effects: ArrayLike, *, top: int | None = None, dims: int = 3) -> Self:
        """The space of (T, K) effects: of one run, or of several one after another, each step counting the same.

        top: the regions with the largest mean |effect| alone, so many; None for all. Raises InputError when dims or
        top is under 1, or an effect is not finite.

        >>> both = np.concatenate([one.effects[one.thinking] for one in (traces[0], traces[1])])
        >>> shared = tk.trajectory.Space.fit(both, dims=2)  # the same axes for two runs of one image
        >>> shared.axes.shape
        (2, 35)
        """
        path = as_path(effects)
        if dims < 1 or (top is not None and top < 1):
            raise InputError(f"a space needs at least one dimension and one region; got dims={dims}, top={top}.")
        if not np.isfinite(path).all():
            raise InputError("a space is fitted on finite effects; these hold NaN or infinite values.")
        size = np.abs(path).mean(0) if len(path) else np.zeros(path.shape[1])
        kept = np.sort(np.argsort(-size, kind="stable")[:top])
        centre = path[:, kept].mean(0) if len(path) else np.zeros(len(kept))
        axes, explained = np.zeros((dims, len(kept))), np.zeros(dims)
        if min(len(path), len(kept)):
            _, spread, found = np.linalg.svd(path[:, kept] - centre, full_matrices=False)
            n = min(dims, int((spread > 1e-9 * spread[0]).sum()))  # no axes of rounding noise
            signs = np.sign(np.take_along_axis(found[:n], np.abs(found[:n]).argmax(1)[:, None], 1))
            total = ((path - path.mean(0)) ** 2).sum()
            axes[:n] = found[:n] * signs
            explained[:n] = spread[:n] ** 2 / total if total > 0 else 0
        return cls(path.shape[1], kept.astype(np.int64), centre, axes, explained)

    def transform(self, effects: ArrayLike) -> Path:
        """(T, K) effects → (T, dims) coordinates, nats. Raises InputError for another K than it was fitted on.

        >>> space = tk.trajectory.Space.fit(path)
        >>> bool(np.allclose(space.transform(path[:3]), space.transform(path)[:3]))  # a step stays where it is
        True
        """
        path = as_path(effects)
        if path.shape[1] != self.n_regions:
            raise InputError(f"this space was fitted on {self.n_regions} regions; got effects of {path.shape[1]}.")
        return (path[:, self.kept] - self.centre) @ self.axes.T

    def to_state(self) -> dict[str, Any]:
        """JSON-ready."""
        arrays = {name: getattr(self, name).tolist() for name in ("kept", "centre", "axes", "explained")}
        return {"n_regions": self.n_regions} | arrays

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `to_state` gave. Raises InputError on missing or misshapen parts."""
        try:
            kept = np.array(state["kept"], np.int64).reshape(-1)
            centre, explained = (np.array(state[name], float).reshape(-1) for name in ("centre", "explained"))
            axes = np.array(state["axes"], float).reshape(len(explained), len(kept))
            n_regions = int(state["n_regions"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a saved space is damaged ({error}); fit it again.") from error
        if len(centre) != len(kept) or not ((kept >= 0) & (kept < n_regions)).all() or not np.isfinite(axes).all():
            raise InputError("a saved space is damaged (its parts do not fit each other); fit it again.")
        return cls(n_regions, kept, centre, axes, explained)


def project(effects: ArrayLike, top: int = 32, dims: int = 3) -> Path:
    """(T, K) effects → (T, dims) nats: the figure of vSTREAM (arXiv 2604.16587), read as follows.

    Keep the `top` regions with the largest mean |effect| of this run, then PCA fitted on this run. Columns are in
    decreasing variance, each with its largest loading positive; where a run has fewer steps or regions than `dims`,
    the rest are 0. The basis sees the whole run: it is for pictures, never for features used online. How much of the
    variance it shows is `Space.fit(effects, top=top, dims=dims).explained`.

    See also: `Space`, `trajectory_3d`.

    >>> tk.trajectory.project(path).shape  # (T, 3), for a picture
    (34, 3)
    >>> tk.trajectory.project(path, dims=2).std(0).round(1)
    array([2. , 1.9])
    """
    return Space.fit(effects, top=top, dims=dims).transform(effects)


def on_grid(effects: ArrayLike, labels: ArrayLike, shape: tuple[int, int] = (8, 8)) -> Path:
    """(T, K) effects → (T, rows · cols) nats: the effect of each region, shared by area over a grid laid on its image.

    labels: (H, W) region of each pixel, as in `Trace.regions`. A pixel counts to the cell that holds its centre, so the
    cells of a step add up to what its regions add up to. Raises InputError when labels and effects do not fit.

    See also: `Space`, `project`.

    >>> cells = tk.trajectory.on_grid(path, trace.regions, shape=(6, 6))  # comparable between images
    >>> cells.shape
    (34, 36)
    >>> bool(np.allclose(cells.sum(1), path.sum(1), atol=1e-3))
    True
    """
    path, regions = as_path(effects), np.asarray(labels)
    k = path.shape[1]
    if (
        regions.ndim != 2
        or regions.dtype.kind not in "iu"
        or not regions.size
        or not 0 <= regions.min() <= regions.max() < k
    ):
        raise InputError(f"labels must be an (H, W) map of regions 0 … {k - 1}; got {regions.dtype} {regions.shape}.")
    (height, width), (rows, cols) = regions.shape, shape
    row, col = (2 * np.arange(height) + 1) * rows // (2 * height), (2 * np.arange(width) + 1) * cols // (2 * width)
    cell = row[:, None] * cols + col
    n = rows * cols
    pixels = np.bincount((regions.astype(np.int64) * n + cell).ravel(), minlength=k * n).reshape(k, n)
    area = pixels.sum(1, keepdims=True)
    return np.asarray(path @ (pixels / np.maximum(area, 1)))
