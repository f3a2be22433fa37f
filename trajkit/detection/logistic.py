"""Logistic regression of two classes on a design that is never laid out whole.

The set `task` multiplies every other column by the one-hot of the task: most of a row is 0, and most of the rest is
there twice. So rows of one task keep their own few columns, and where in the whole design each of those stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TOLERANCE = 1e-4
"""Of the gradient and of half the squared Newton decrement, as scikit-learn's `newton-cholesky`."""
_STEPS, _HALVINGS = 2000, 21


class Part(NamedTuple):
    """Some rows of a design of P columns. rows: (r,) their numbers. columns: (r, Q). places: pairs (of these, of the
    whole) of positions of columns, each as long as the other; what stands nowhere is 0."""

    rows: NDArray[np.int64]
    columns: Floats
    places: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]

    def own(self, whole: Floats) -> Floats:
        """(P,) coefficients → (Q,) what these columns are multiplied by."""
        found = np.zeros(self.columns.shape[1])
        for own, place in self.places:
            found[own] += whole[place]
        return found

    def add(self, own_sums: Floats, to: Floats) -> None:
        """Add (Q,) sums of these columns to (P,) sums of the whole."""
        for own, place in self.places:
            to[place] += own_sums[own]

    def add_products(self, own_sums: Floats, to: Floats) -> None:
        """As `add`, (Q, Q) sums of products of two columns to (P, P)."""
        for own, place in self.places:
            for other, beside in self.places:
                to[np.ix_(place, beside)] += own_sums[np.ix_(own, other)]


class Fitted(NamedTuple):
    """coef: (P,). intercept. centre: (P,) the weighted mean of the design."""

    coef: Floats
    intercept: float
    centre: Floats


def fit_logistic(parts: Sequence[Part], width: int, y: Floats, weight: Floats, C: float) -> Fitted:
    """Newton's method from 0 on the mean loss with the L2 penalty of scikit-learn's LogisticRegression, which gives the
    same numbers but for rounding. width: P. y: (n,) 0 or 1. weight: (n,), some above 0."""
    from scipy.linalg import solve

    loss = _Loss(parts, width, y, weight / weight.sum(), 1 / (C * weight.sum()))
    at = np.zeros(width + 1)  # the intercept last
    value, gradient = loss.value(at)
    for _ in range(_STEPS):
        hessian = loss.hessian(at)
        step = solve(hessian, -gradient, assume_a="pos")
        at, value, gradient = _along(loss, at, step, value, float(gradient @ step))
        if np.abs(gradient).max() <= _TOLERANCE and step @ hessian @ step / 2 <= _TOLERANCE:
            break
    return Fitted(at[:-1], float(at[-1]), loss.centre())


def _along(loss: _Loss, at: Floats, step: Floats, value: float, slope: float) -> tuple[Floats, float, Floats]:
    """The point, its loss and its gradient, by the whole step or the first of its halves that lowers the loss."""
    size = 1.0
    for _ in range(_HALVINGS):
        new = at + size * step
        found, gradient = loss.value(new)
        if found <= value + 2**-11 * size * slope + 16 * abs(value) * np.finfo(float).eps:
            break
        size /= 2
    return new, found, gradient


class _Loss:
    def __init__(self, parts: Sequence[Part], width: int, y: Floats, weight: Floats, penalty: float) -> None:
        self.parts, self.width, self.penalty = parts, width, penalty
        self.y, self.weight = [y[part.rows] for part in parts], [weight[part.rows] for part in parts]

    def value(self, at: Floats) -> tuple[float, Floats]:
        """The loss and its gradient (P + 1,)."""
        total, gradient = self.penalty / 2 * float(at[:-1] @ at[:-1]), np.append(self.penalty * at[:-1], 0.0)
        for part, y, weight in zip(self.parts, self.y, self.weight, strict=True):
            odds = self._odds(part, at)
            total += float(weight @ (np.logaddexp(0, odds) - y * odds))
            off = weight * (_chance(odds) - y)
            part.add(off @ part.columns, gradient[:-1])
            gradient[-1] += off.sum()
        return total, gradient

    def hessian(self, at: Floats) -> Floats:
        """(P + 1, P + 1)."""
        found = np.diag(np.append(np.full(self.width, self.penalty), 0.0))
        for part, weight in zip(self.parts, self.weight, strict=True):
            chance = _chance(self._odds(part, at))
            curve = weight * chance * (1 - chance)
            scaled = part.columns * curve[:, None]
            part.add_products(part.columns.T @ scaled, found[:-1, :-1])
            part.add(scaled.sum(axis=0), found[-1, :-1])
            found[-1, -1] += curve.sum()
        found[:-1, -1] = found[-1, :-1]
        return found

    def centre(self) -> Floats:
        """(P,) the weighted mean of the design."""
        found = np.zeros(self.width)
        for part, weight in zip(self.parts, self.weight, strict=True):
            part.add(weight @ part.columns, found)
        return found

    @staticmethod
    def _odds(part: Part, at: Floats) -> Floats:
        return part.columns @ part.own(at[:-1]) + at[-1]


def _chance(odds: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(odds))
