"""Sentence features: what can be said of one thinking step beside those before it, and of no later one.

Two forms that agree to the last bit (a test holds them to that): `features_of_steps` over many runs at once, and
`SentenceFeatures`, O(K) a step, for a run that is still going on.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.concentration import concentration, step_hhi
from trajkit.trajectory.features import lower
from trajkit.trajectory.prefixes import as_ends, running

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

EFFECTS = ("mass", "largest", "concentration", "agreement", "agreement_before", "seen", "since")
"""mass: sum of the positive effects, nats. largest: the largest effect, nats. concentration: hhi, NaN where no region
supports the step. Where a region supports it: agreement, the cosine with the last earlier step that rests on the same
region most, NaN before there is one; seen, whether there is one; since, steps since then, NaN before. agreement_before:
the cosine with the step before."""
OF_NAMED = ("named_effect", "named_share", "agreement_named")
"""Of a sentence that names a place, else NaN. named_effect: sum of the effects of its regions, nats. named_share: their
share of the positive effects. agreement_named: cosine with the last earlier sentence that names the same place."""
UNCERTAINTY = ("logprob", "entropy", "tokens", "logprob_low")
"""logprob, entropy: means over the sentence's tokens, nats. tokens: how many. logprob_low: the lowest logprob
of the run so far, NaN from a sentence on that has none: the prefix feature of that name."""
NAMED = "named"
"""Whether the sentence names a place, 0 or 1: of the text, and of every kind of features alike."""

CONFIDENT = 0.9
"""A sentence is confident whose tokens' probabilities have this geometric mean or more."""

KINDS = {
    "effects": (*EFFECTS, *OF_NAMED, NAMED),
    "uncertainty": (*UNCERTAINTY, NAMED),
    "both": (*EFFECTS, *OF_NAMED, *UNCERTAINTY, NAMED),
}
"""What a StepPredictor can read."""


def features_of_steps(
    effects: ArrayLike,
    run: ArrayLike,
    *,
    logprob: ArrayLike,
    entropy: ArrayLike,
    tokens: ArrayLike,
    named: Bools | None = None,
) -> dict[str, Floats]:
    """The sentence features of N steps, (N,) each: EFFECTS, UNCERTAINTY and, with `named`, OF_NAMED and NAMED.

    effects: (N, K) nats, (N, 0) where there are none. run: (N,) of each, the steps of a run in order and one after
    another. logprob, entropy: (N,), NaN where not known. tokens: (N,). named: (N, K) the regions that each sentence
    names. Raises InputError where they differ in length.
    """
    x = np.ascontiguousarray(effects, np.float64)
    if x.ndim != 2 or (named is not None and named.shape != x.shape):
        raise InputError(f"effects, and what is named, must be (N, K); got {x.shape}.")
    ids, ends = as_ends(run)
    told = {"logprob": logprob, "entropy": entropy, "tokens": tokens}
    columns = {name: np.asarray(of, np.float64) for name, of in told.items()}
    for name, of in {"run": ids, **columns}.items():
        if of.shape != (len(x),):
            raise InputError(f"{name} must hold one number for each of the {len(x)} steps; got shape {of.shape}.")
    columns["logprob_low"] = running(np.minimum, columns["logprob"][None], ends)[0]
    return _of_effects(x, ids) | columns | (_of_named(x, ids, named) if named is not None else {})


def _of_effects(x: Floats, run: Integers) -> dict[str, Floats]:
    n, k = x.shape
    if not k:
        return {name: np.full(n, np.nan) for name in EFFECTS}
    largest, top = x.max(axis=1), x.argmax(axis=1)
    supported = np.asarray(largest > 0)
    earlier = last_alike(run, top, supported)
    before = np.where(np.append(True, np.diff(run) != 0)[:n], -1, np.arange(n) - 1)
    return {
        "mass": np.einsum("tk->t", np.maximum(x, 0.0)),
        "largest": largest,
        "concentration": concentration(x),
        "agreement": _cosines(x, earlier),
        "agreement_before": _cosines(x, before),
        "seen": np.where(supported, earlier >= 0, np.nan),
        "since": np.where(earlier >= 0, np.arange(n) - earlier, np.nan),
    }


def _of_named(x: Floats, run: Integers, named: Bools) -> dict[str, Floats]:
    names = np.asarray(named.any(axis=1))
    if not x.shape[1]:
        return {name: np.full(len(x), np.nan) for name in (*OF_NAMED, NAMED)}
    place = np.unique(np.packbits(named, axis=1), axis=0, return_inverse=True)[1].reshape(len(x))
    mask, positive = named.astype(float), np.maximum(x, 0.0)
    mass = np.einsum("tk->t", positive)
    share = np.divide(np.einsum("tk,tk->t", positive, mask), mass, out=np.full(len(x), np.nan), where=mass > 0)
    return {
        "named_effect": np.where(names, np.einsum("tk,tk->t", x, mask), np.nan),
        "named_share": np.where(names, share, np.nan),
        "agreement_named": _cosines(x, last_alike(run, place, names)),
        NAMED: names.astype(float),
    }


def last_alike(run: Integers, key: Integers, has: Bools) -> Integers:
    """(N,) the last earlier step of the same run and key, of those that have one; −1 where there is none."""
    rows = np.flatnonzero(has)
    order = rows[np.lexsort((rows, key[rows], run[rows]))]
    same = (run[order][1:] == run[order][:-1]) & (key[order][1:] == key[order][:-1])
    found = np.full(len(run), -1)
    found[order[1:][same]] = order[:-1][same]
    return found


def _cosines(x: Floats, other: Integers) -> Floats:
    """(N,) cosine of each row with another, NaN where that is −1 or one of the two is 0."""
    found = np.full(len(x), np.nan)
    here = np.flatnonzero(other >= 0)
    a, b = x[here], x[other[here]]
    size = np.sqrt(np.einsum("tk,tk->t", a, a)) * np.sqrt(np.einsum("tk,tk->t", b, b))
    found[here] = np.divide(np.einsum("tk,tk->t", a, b), size, out=np.full(len(here), np.nan), where=size > 0)
    return found


class SentenceFeatures:
    """Sentence features of a run in progress. Feed it every thinking step in order; time a step is O(K).

    named: whether the places that sentences name are known; `update` then needs them. Memory: the last effects of each
    region that a step rested on, and of each place named.

    See also: `sentence_features`, `StepPredictor`.

    >>> running = tk.detection.SentenceFeatures()
    >>> for step, effects in zip(trace.steps, trace.effects):
    ...     now = running.update(effects, logprob=step.logprob, entropy=step.entropy, tokens=step.n_tokens)
    >>> sorted(now)[:3]
    ['agreement', 'agreement_before', 'concentration']
    """

    def __init__(self, named: bool = False) -> None:
        self._named = named
        self._step = 0
        self._before: Floats | None = None
        self._last: dict[Hashable, tuple[int, Floats]] = {}
        self._low = math.inf

    def update(
        self, effects: ArrayLike, *, logprob: float, entropy: float, tokens: int, named: Bools | None = None
    ) -> dict[str, float]:
        """Take the next step, (K,) effects, (0,) where there are none; return its features, and its `step`. logprob,
        entropy: NaN where not known. named: (K,) the regions that the sentence names.

        Raises InputError where effects are not one axis, K is not that of the first step, or `named` is not as
        promised.
        """
        x = np.array(effects, dtype=np.float64, order="C")
        if x.ndim != 1 or (self._before is not None and x.shape != self._before.shape):
            raise InputError(f"step {self._step + 1}: effects must be (K,), as of the steps before; got {x.shape}.")
        if (named is not None) != self._named or (named is not None and named.shape != x.shape):
            came = "none" if named is None else f"shape {named.shape}"
            raise InputError(
                f"step {self._step + 1}: what is named must be {'(K,)' if self._named else 'left out'}; got {came}."
            )
        self._step += 1
        self._low = lower(self._low, logprob)
        found = self._of_effects(x)
        found |= {"logprob": logprob, "entropy": entropy, "tokens": float(tokens), "logprob_low": self._low}
        found |= self._of_named(x, named) if named is not None else {}
        self._before = x
        return found | {"step": float(self._step)}

    def _of_effects(self, x: Floats) -> dict[str, float]:
        if not x.size:
            return dict.fromkeys(EFFECTS, math.nan)
        top = int(x.argmax())
        largest = float(x[top])
        earlier = self._last_alike(top, x) if largest > 0 else None
        return {
            "mass": float(np.einsum("k->", np.maximum(x, 0.0))),
            "largest": largest,
            "concentration": step_hhi(x, largest),
            "agreement": _cosine(x, earlier[1]) if earlier else math.nan,
            "agreement_before": _cosine(x, self._before) if self._before is not None else math.nan,
            "seen": float(earlier is not None) if largest > 0 else math.nan,
            "since": float(self._step - earlier[0]) if earlier else math.nan,
        }

    def _of_named(self, x: Floats, named: Bools) -> dict[str, float]:
        if not x.size:
            return dict.fromkeys((*OF_NAMED, NAMED), math.nan)
        if not named.any():
            return dict.fromkeys(OF_NAMED, math.nan) | {NAMED: 0.0}
        mask, positive = named.astype(float), np.maximum(x, 0.0)
        mass = float(np.einsum("k->", positive))
        earlier = self._last_alike(named.tobytes(), x)
        return {
            "named_effect": float(np.einsum("k,k->", x, mask)),
            "named_share": float(np.einsum("k,k->", positive, mask)) / mass if mass > 0 else math.nan,
            "agreement_named": _cosine(x, earlier[1]) if earlier else math.nan,
            NAMED: 1.0,
        }

    def _last_alike(self, key: Hashable, x: Floats) -> tuple[int, Floats] | None:
        earlier = self._last.get(key)
        self._last[key] = (self._step, x)
        return earlier


def _cosine(a: Floats, b: Floats) -> float:
    size = math.sqrt(np.einsum("k,k->", a, a)) * math.sqrt(np.einsum("k,k->", b, b))
    return float(np.einsum("k,k->", a, b)) / size if size > 0 else math.nan
