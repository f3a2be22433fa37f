"""The group bootstrap: whole groups are drawn with replacement, and statistics of all draws come from one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.stats.pairs import disjoint_pairs, with_partner

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]
MIN_GROUPS = 10
"""Groups that an interval needs, of each class where two are compared: resampling fewer understates how much another
sample could differ."""
_BLOCK = 300_000
"""Weights that are laid out at a time: B draws of n rows need memory for B times the groups, and for this."""
_SLOTS, _DRAWS = 1024, 64
"""Slots (a power of 2) and draws whose sums are held at a time: so many stay in a processor's cache."""


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each group was drawn, (B, G), and the group of each row, (n,).

    Draw 0 is the sample itself, each group once. A statistic of "(B,)" has a value a draw; `interval` makes a value and
    an interval of them. min_groups: rows of fewer groups have a value, and NaN in all other draws.
    """

    counts: Integers
    member: Integers
    min_groups: int = 1

    def __len__(self) -> int:
        return len(self.counts)

    def of(self, rows: NDArray[np.bool_] | Integers) -> Draws:
        """The same draws, of some of the rows: a mask, or row numbers in any order."""
        return Draws(self.counts, self.member[rows], self.min_groups)

    @property
    def sample(self) -> Draws:
        """Draw 0 alone."""
        return Draws(self.counts[:1], self.member, self.min_groups)

    def blocks(self) -> Iterator[slice]:
        """Some draws at a time, so that `weights` of all rows stay small."""
        size = max(1, _BLOCK // max(len(self.member), 1))
        return (slice(first, first + size) for first in range(0, len(self.counts), size))

    def weights(self, block: slice, rows: Integers) -> Integers:
        """(b, r) how often each of `rows` counts in each draw of a block."""
        return np.take(self.counts[block], self.member[rows], axis=1)

    def in_slots(
        self, *sorts: tuple[Integers, Integers], n_slots: int
    ) -> Iterator[tuple[slice, Iterator[list[Floats]]]]:
        """Some draws at a time, b of them, and of these the slots in order, r at a time: for each sort of rows (r, b),
        how many of the rows in a slot were drawn.

        sorts: rows and their slots, (n,) each. r is a power of 2; the slots behind the last of `n_slots` are empty.
        Rows are read once, whatever the number of draws.
        """
        from scipy.sparse import csr_array

        few = min(_SLOTS, 1 << (n_slots - 1).bit_length())
        shape = (-(-n_slots // few) * few, self.counts.shape[1])
        tables = [
            csr_array((np.ones(len(rows), np.float32), (slot, self.member[rows])), shape=shape) for rows, slot in sorts
        ]
        parts = [[table[first : first + few] for table in tables] for first in range(0, shape[0], few)]
        for first in range(0, len(self.counts), _DRAWS):
            block = slice(first, first + _DRAWS)
            counts = np.ascontiguousarray(self.counts[block].T, dtype=np.float32)  # (G, b)
            yield block, ([(table @ counts).astype(float) for table in part] for part in parts)

    def by_group(self, values: ArrayLike) -> Floats:
        """(G, …) sum of (n, …) finite values over the rows of each group."""
        x = np.asarray(values, dtype=float)
        n_groups = self.counts.shape[1]
        flat = x.reshape(len(self.member), math.prod(x.shape[1:]))
        summed: Floats = np.zeros((n_groups, flat.shape[1]))
        for j, column in enumerate(flat.T):
            summed[:, j] = np.bincount(self.member, column, n_groups)
        return summed.reshape(n_groups, *x.shape[1:])

    def sums(self, values: ArrayLike) -> Floats:
        """(B, …) sum of (n, …) finite values."""
        by_group = self.by_group(values)
        flat = by_group.reshape(len(by_group), math.prod(by_group.shape[1:]))
        size = max(1, _BLOCK // max(len(by_group), 1))
        summed = np.concatenate([self.counts[i : i + size] @ flat for i in range(0, len(self.counts), size)])
        return summed.reshape(len(self.counts), *by_group.shape[1:])

    def sample_if_few(self, statistic: Floats, min_groups: int, *parts: NDArray[np.bool_]) -> Floats:
        """The statistic of the sample alone where a part of the rows (all of them, if none is given) is of fewer than
        `min_groups` groups."""
        few = any(_n_groups(self.member[part]) < min_groups for part in (parts or (slice(None),)))
        return np.where(np.arange(len(statistic)) > 0, np.nan, statistic) if few else statistic


def numbered(values: ArrayLike, *others: ArrayLike) -> Integers:
    """(n,) 0, 1, … for distinct values, or combinations of the values of several columns, in the order of their text:
    groups, and strata."""
    number = np.unique(np.asarray(values).astype(str), return_inverse=True)[1]
    for column in others:
        of_column = numbered(column)
        number = np.unique(number * (of_column.max(initial=0) + 1) + of_column, return_inverse=True)[1]
    return number


def _n_groups(member: Integers) -> int:
    return int(np.count_nonzero(np.bincount(member))) if len(member) else 0


def some_groups(groups: Iterable[str], share: float, seed: int | Sequence[int]) -> frozenset[str]:
    """About that share of the different groups, at least one, drawn without replacement: those to hold out."""
    names = sorted(set(groups))
    chosen = np.random.default_rng(seed).permutation(len(names))[: max(1, round(share * len(names)))]
    return frozenset(names[i] for i in chosen)


def group_draws(groups: ArrayLike, n_boot: int, seed: int, min_groups: int = MIN_GROUPS) -> Draws:
    """Draws of as many groups as there are, with replacement: the sample itself and then `n_boot` draws.

    min_groups: groups that an interval of a mean or a median needs.
    """
    member = numbered(groups)
    n = int(member.max(initial=-1)) + 1
    counts = np.ones((1 + (n_boot if n else 0), n), np.uint16)
    rng = np.random.default_rng(seed)
    for draw in counts[1:]:
        draw[:] = np.bincount(rng.integers(n, size=n, dtype=np.int32), minlength=n)
    return Draws(counts, member, min_groups)


def weighted_auc(y: ArrayLike, score: ArrayLike, draws: Draws) -> Floats:
    """(B,) area under the ROC curve; ties count half; NaN where a class is not drawn, and in all draws but the sample
    where a class has fewer than MIN_GROUPS groups. An area of 0 or 1 has `edge_draws` of `pairs.disjoint_pairs`
    instead.

    y: (n,) 0/1. score: (n,), no NaN, infinities allowed. O(B·n) after one sort.
    """
    return auc_within(y, score, np.zeros(len(draws.member), int), draws)


def auc_within(y: ArrayLike, score: ArrayLike, stratum: Integers, draws: Draws) -> Floats:
    """(B,) AUC over pairs of the same stratum; NaN where there is no pair, and as `weighted_auc`, whose groups are
    those of rows with a partner in their stratum."""
    wins, pairs = pairs_within(y, score, stratum, draws)
    areas = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
    positive = np.asarray(y, dtype=float) == 1
    if areas[0] in (0, 1):
        trials, share = disjoint_pairs(positive, stratum, draws.member)
        return edge_draws(areas[0], trials, len(areas), share)
    has = with_partner(positive, stratum)
    return draws.sample_if_few(areas, MIN_GROUPS, positive & has, ~positive & has)


def edge_draws(value: float, trials: float, size: int, share: float = 1.0) -> Floats:
    """(size,) draws of a figure in [0, 1] that is `value`, 0 or 1, in every resample: there it says nothing.

    Had each of `trials` independent trials the chance p to go the other way, all would have gone this way with
    probability (1 − p)^trials; p = 1 − 0.025^(1/trials) is the exact bound (Clopper & Pearson 1934, doi
    10.1093/biomet/26.4.404), and `interval` finds it at the percentile where it looks. Half of the draws stay at the
    edge. share: of the figure that the trials are of; of the rest anything may be true.
    """
    level = np.random.default_rng(0).permutation(np.linspace(0, 1, max(size - 1, 0)))
    away = np.where(level < 0.5, 1 - share * level ** (1 / trials), 0.0)
    return np.concatenate([[value], np.abs(value - away)])


def pairs_within(y: ArrayLike, score: ArrayLike, stratum: Integers, draws: Draws) -> tuple[Floats, Floats]:
    """(B,) pairs of a positive and a negative row of one stratum that are in the right order (ties half), and all.

    By stratum and score, rows fall into slots: some negative ones, then some positive ones that are above them all, or
    ties. Draws look at groups and slots alone.
    """
    positive, values = np.asarray(y, dtype=float) == 1, np.asarray(score, dtype=float)
    wins, pairs = np.zeros(len(draws)), np.zeros(len(draws))
    if positive.all() or not positive.any():
        return wins, pairs
    among, level = (np.unique(each, return_inverse=True)[1] for each in (stratum, values))
    order = np.lexsort((positive, level, among))  # of tied rows the negative ones first
    slot, counts_for = _slots(positive[order], level[order], among[order])
    sides = [(order[side], slot[side]) for side in (~positive[order], positive[order])]
    for block, parts in draws.in_slots(*sides, n_slots=len(counts_for)):
        earlier, together = _in_order(parts, counts_for)
        wins[block] = earlier + together
    strata = [(rows, among[rows]) for rows, _ in sides]
    for block, parts in draws.in_slots(*strata, n_slots=int(among.max()) + 1):
        earlier, pairs[block] = _in_order(parts, np.ones(int(among.max()) + 1))
        wins[block] -= earlier  # pairs of two strata
    return wins, pairs


def _slots(positive: NDArray[np.bool_], level: Integers, among: Integers) -> tuple[Integers, Floats]:
    """(n,) the slot of rows in order; and (R,) what a pair of a slot counts: 1 where its positive rows are above, a
    half where they are tied."""
    of_stratum = np.append(True, np.diff(among) != 0)
    of_score = of_stratum | np.append(True, np.diff(level) != 0)
    score = np.cumsum(of_score) - 1
    n_pos = np.bincount(score, positive)
    tied = ((n_pos > 0) & (n_pos < np.bincount(score)))[score]
    first = of_stratum | np.append(True, positive[:-1] & ~positive[1:])
    first |= of_score & (tied | np.append(False, tied[:-1]))
    return np.cumsum(first) - 1, np.where(tied[first], 0.5, 1.0)


def _in_order(parts: Iterator[list[Floats]], counts_for: Floats) -> tuple[Floats, Floats]:
    """(b,) of all pairs of a negative and a positive row: those with the negative one in an earlier slot; and those in
    one slot, each times what it counts for, (R,). parts: negative and positive rows of slots, (r, b) each."""
    earlier = together = before = np.zeros(1)
    first = 0
    for negative, positive in parts:
        here = counts_for[first : first + len(negative)]
        together = together + np.einsum("ib,ib->b", negative[: len(here)] * here[:, None], positive[: len(here)])
        first += len(negative)
        within = np.zeros(1)
        while len(negative) > 1:  # of two neighbours, the pairs across; then the two are one
            within = within + np.einsum("ib,ib->b", negative[::2], positive[1::2])
            negative, positive = negative[::2] + negative[1::2], positive[::2] + positive[1::2]
        earlier = earlier + within + before * positive[0]
        before = before + negative[0]
    return earlier, together


def weighted_mean(values: ArrayLike, draws: Draws) -> Floats:
    """(B,) mean of (n,) finite values; NaN where nothing was drawn, and in all draws but the sample where groups are
    few.

    Values that are all 0, or all 1, are a share at its edge, and have `edge_draws` of as many trials as groups: a group
    whose mean is p on average holds another value with probability p at least.
    """
    total = draws.sums(np.ones(len(draws.member)))
    means = np.divide(draws.sums(values), total, out=np.full(len(draws), np.nan), where=total > 0)
    if means[0] in (0, 1) and np.all(np.asarray(values) == means[0]):
        return edge_draws(means[0], _n_groups(draws.member), len(means))
    return draws.sample_if_few(means, draws.min_groups)


def weighted_median(values: ArrayLike, draws: Draws) -> Floats:
    """(B,) the smallest value with at least half the rows at or below it; NaN where nothing was drawn, and in all draws
    but the sample where groups are few."""
    x = np.asarray(values, dtype=float)
    median = np.full(len(draws), np.nan)
    if not len(x):
        return median
    order = np.argsort(x, kind="stable")
    for block in draws.blocks():
        share = np.cumsum(draws.weights(block, order), axis=1, dtype=np.int64)
        middle = np.argmax(2 * share >= share[:, -1:], axis=1)
        median[block] = np.where(share[:, -1] > 0, x[order][middle], np.nan)
    return draws.sample_if_few(median, draws.min_groups)


def interval(draws: Floats) -> tuple[float, float, float]:
    """(value, low, high): draw 0, and the 2.5 % and 97.5 % percentiles of the others that are not NaN.

    low and high are NaN where there is no value, no draw, or all draws agree: they say nothing then (0 and 1 have
    `edge_draws`). Infinite draws count; the percentiles are then draws themselves, not between two.
    """
    value, rest = float(draws[0]), draws[1:][~np.isnan(draws[1:])]
    if np.isnan(value) or not len(rest):
        return value, float("nan"), float("nan")
    low, high = np.quantile(rest, (0.025, 0.975), method="linear" if np.isfinite(rest).all() else "inverted_cdf")
    return (value, float(low), float(high)) if low < high else (value, float("nan"), float("nan"))


def clopper_pearson(k: float, n: float) -> tuple[float, float]:
    """The exact 95 % interval of a share of k in n independent trials (Clopper & Pearson 1934, doi
    10.1093/biomet/26.4.404); (0, 1) when n = 0. k and n need not be whole: of effective trials, Korn & Graubard 1998
    (Survey Methodology 24)."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if n > k else 1.0
    return low, high


def wilson(k: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of k in n independent trials; (0, 1) when n = 0."""
    if n == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    centre = (k + z2 / 2) / (n + z2)
    half = float(np.sqrt(z2 * (k * (n - k) / n + z2 / 4))) / (n + z2)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))
