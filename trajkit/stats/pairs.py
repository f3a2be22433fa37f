"""Independent pairs of a positive and a negative row of one stratum: what an AUC of 0 or 1 rests on."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


class Trials(NamedTuple):
    """number: of independent trials, not always whole. share: of the pairs, in (0, 1], that they speak for."""

    number: float
    share: float


def with_partner(positive: NDArray[np.bool_], stratum: Integers) -> NDArray[np.bool_]:
    """(n,) whether a row's stratum holds a row of the other class; the other rows say nothing within strata."""
    at = np.unique(stratum, return_inverse=True)[1]
    n_pos = np.bincount(at, positive)
    return np.asarray(((n_pos > 0) & (n_pos < np.bincount(at)))[at])


def disjoint_pairs(positive: NDArray[np.bool_], stratum: Integers, member: Integers) -> Trials:
    """How many independent pairs stand behind an AUC of 0 or 1, and for what share of all pairs.

    Pairs of groups are taken greedily, no group twice, each time for the stratum with the least, so that they are
    independent; a pair i of groups has a positive and a negative row in each of the strata S_i. With A_s the true AUC
    of a stratum and w_s its share of all pairs, pair i is in order in all of S_i with the probability min A_s at most,
    which no mean over S_i lies below. So all are in order with Π_i Σ_s v_is A_s ≤ (Σ w_s A_s)^κ at most, for
    v_is = w_s / Σ_{S_i} w and κ = min_s Σ_i v_is / w_s, by the inequality of the means. In one stratum κ is min(groups
    with a positive, groups with a negative, half of all groups); a group that is alone with both classes is a trial.
    Strata for which no group is left are not in κ, and their pairs not in the share. Groups weigh alike, however many
    rows they have. Needs a stratum of both classes.
    """
    holds: dict[int, tuple[set[int], set[int]]] = {}  # of a group, the strata of its positive rows and of the others
    has = with_partner(positive, stratum)
    at = np.unique(stratum[has], return_inverse=True)[1]
    n_pos = np.bincount(at, positive[has])
    weight = n_pos * (np.bincount(at) - n_pos)
    weight = weight / weight.sum()
    for group, s, is_pos in zip(member[has].tolist(), at.tolist(), positive[has].tolist(), strict=True):
        holds.setdefault(group, (set(), set()))[not is_pos].add(s)
    ready: list[tuple[list[int], list[int], list[int]]] = [([], [], []) for _ in weight]  # positive, negative, both
    for group in sorted(holds, key=lambda g: -len(holds[g][0] | holds[g][1])):  # taken from the end: few strata first
        of_pos, of_neg = holds[group]
        for s in of_pos | of_neg:
            ready[s][2 if s in of_pos and s in of_neg else int(s in of_neg)].append(group)
    kappa, covered, taken = np.zeros(len(weight)), np.ones(len(weight), bool), set[int]()
    queue = [(0.0, -w, s) for s, w in enumerate(weight.tolist())]
    heapq.heapify(queue)
    while queue:
        known, w, s = heapq.heappop(queue)
        if known < kappa[s]:
            heapq.heappush(queue, (float(kappa[s]), w, s))
            continue
        pair = _free_pair(ready[s], taken, alone=not kappa[s])
        if pair is None and kappa[s]:
            break
        if pair is None:
            covered[s] = False
            continue
        taken.update(pair)
        (pos_a, neg_a), (pos_b, neg_b) = (holds[group] for group in pair)
        shared = list((pos_a & neg_b) | (neg_a & pos_b))
        kappa[shared] += 1 / weight[shared].sum()
        heapq.heappush(queue, (float(kappa[s]), w, s))
    share = min(1.0, float(weight[covered].sum()))
    return Trials(float(kappa[covered].min()) * share, share)


def _free_pair(ready: tuple[list[int], list[int], list[int]], taken: set[int], alone: bool) -> tuple[int, int] | None:
    """Two groups of a stratum that are not taken, one with a positive and one with a negative; those with both last.
    `alone`: one with both, twice, where there is no other."""
    positive, negative, both = (_without(some, taken) for some in ready)
    if positive and negative:
        return positive[-1], negative[-1]
    if not both:
        return None
    last = both.pop()
    others = positive or negative or _without(both, taken)
    other = others[-1] if others else last
    both.append(last)
    return (other, last) if other != last or alone else None


def _without(some: list[int], taken: set[int]) -> list[int]:
    while some and some[-1] in taken:
        some.pop()
    return some
