"""Small graphs as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 18
"""Room around a graph for its numbers, pixels."""
_DOTS, _MOST = 60, 400
"""Values up to which each has a dot, and up to which each has a place on the line."""


def risk_line(risks: ArrayLike, threshold: float | None, alarm: int | None, width: int = 380, height: int = 96) -> str:
    """Risk after each step, with the threshold as a dashed line and a ring at the step that alarmed.

    risks: (T,) in [0, 1], NaN where nothing is said. alarm: a row of them.
    """
    values = np.asarray(risks, float)
    marks = [(0.0, "0"), (1.0, "1")]
    if threshold is not None and math.isfinite(threshold):
        marks.append((threshold, f"{threshold:.2f}"))
    return _line(values, 0.0, 1.0, marks, threshold, alarm, width, height, "risk of failure after each step")


def number_line(values: ArrayLike, said: str, width: int = 380, height: int = 96) -> str:
    """A number after each step, (T,), NaN where there is none, between its least and its most."""
    numbers = np.asarray(values, float)
    known = numbers[np.isfinite(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    marks = [(value, _minus(value, ".2f")) for value in (low, high)]
    return _line(numbers, low, high, marks, None, None, width, height, said)


def _line(
    values: np.ndarray,
    low: float,
    high: float,
    marks: Sequence[tuple[float, str]],
    threshold: float | None,
    alarm: int | None,
    width: int,
    height: int,
    said: str,
) -> str:
    across = (width - _LEFT - _RIGHT) / max(len(values) - 1, 1)

    def x(at: int) -> float:
        return round(_LEFT + at * across, 1)

    def y(value: float) -> float:
        return round(_TOP + (height - _TOP - _BOTTOM) * (1 - (value - low) / (high - low)), 1)

    parts = [_level(y(value), width, text, value == threshold) for value, text in marks]
    shown = _peaks(values)
    follows = {at: bool(np.isfinite(values[before + 1 : at + 1]).all()) for before, at in pairwise([-1, *shown])}
    path = "".join(f"{'L' if follows[at] and at != shown[0] else 'M'}{x(at)} {y(float(values[at]))}" for at in shown)
    parts.append(f'<path d="{path}" fill="none" stroke="var(--accent)" stroke-width="2" stroke-linejoin="round"/>')
    if len(shown) <= _DOTS:
        parts += [f'<circle cx="{x(at)}" cy="{y(float(values[at]))}" r="2.6" fill="var(--accent)"/>' for at in shown]
    if alarm is not None and math.isfinite(values[alarm]):
        parts.append(
            f'<circle cx="{x(alarm)}" cy="{y(float(values[alarm]))}" r="6" fill="none" stroke="var(--alarm)" '
            'stroke-width="2.4"/>'
        )
    every = max(1, math.ceil(len(values) / 12))
    parts += [
        f'<text x="{x(at)}" y="{height - 4}" text-anchor="middle">{at + 1}</text>'
        for at in range(0, len(values), every)
    ]
    return svg(width, height, "".join(parts), said)


def _peaks(values: np.ndarray) -> list[int]:
    """Where there is a value; of very many, the largest of each stretch."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= _MOST:
        return [int(at) for at in known]
    return [int(part[np.argmax(values[part])]) for part in np.array_split(known, _MOST)]


def _level(y: float, width: int, text: str, limit: bool) -> str:
    colour, dash = ("var(--alarm)", ' stroke-dasharray="5 3"') if limit else ("var(--line)", "")
    ink = ' style="fill:var(--alarm)"' if limit else ""
    return (
        f'<line x1="{_LEFT - 6}" x2="{width - 2}" y1="{y}" y2="{y}" stroke="{colour}"{dash}/>'
        f'<text x="{_LEFT - 9}" y="{y + 4}" text-anchor="end"{ink}>{text}</text>'
    )


def bars(values: Sequence[tuple[str, float, float | None]], unit: str, width: int = 380) -> str:
    """Named numbers as bars to either side of zero, with half the width of an interval where there is one.

    values: (name, number, half width); names must be plain.
    """
    if not values:
        return ""
    names, row = 12 + 7 * max(len(name) for name, _, _ in values), 20
    low = min(0.0, *(value - (half or 0.0) for _, value, half in values))
    high = max(0.0, *(value + (half or 0.0) for _, value, half in values))
    unit_room = (width - names - 90) / (high - low or 1.0)
    zero = names - low * unit_room
    parts = [f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="2" y2="{row * len(values)}" stroke="var(--line)"/>']
    for at, (name, value, half) in enumerate(values):
        y, end = at * row, zero + unit_room * value
        colour = "var(--support)" if value > 0 else "var(--oppose)"
        sign = _minus(value, "+.2f")
        parts.append(
            f'<text x="0" y="{y + 14}">{name}</text>'
            f'<rect x="{min(zero, end):.1f}" y="{y + 4}" width="{abs(end - zero):.1f}" height="12" rx="2" '
            f'fill="{colour}"/><text x="{width}" y="{y + 14}" text-anchor="end">{sign} {unit}</text>'
        )
        if half:
            left, right = end - unit_room * half, end + unit_room * half
            parts.append(
                f'<path d="M{left:.1f} {y + 10}H{right:.1f}M{left:.1f} {y + 7}v6M{right:.1f} {y + 7}v6" fill="none" '
                'stroke="var(--ink)"/>'
            )
    return svg(width, row * len(values) + 2, "".join(parts), f"the strongest effects, {unit}")


def dots(
    values: Sequence[float],
    threshold: float | None,
    side: Literal["above", "below"] = "above",
    width: int = 420,
    height: int = 74,
) -> str:
    """Numbers as dots along a line, stacked where they are close, with a threshold; those on its `side` stand out."""
    numbers = np.sort(np.asarray(values, float))
    if not len(numbers):
        return ""
    limit = threshold if threshold is not None and math.isfinite(threshold) else None
    known = [*numbers.tolist(), 0.0, *([limit] if limit is not None else [])]
    low, high = min(known), max(*known, min(known) + 1e-9)
    high = max(high, 1.0) if low >= 0 and high <= 1 else high
    bins = (width - 16) // 7
    at = np.clip(((numbers - low) / (high - low) * (bins - 1)).round().astype(int), 0, bins - 1)
    tallest = int(np.bincount(at).max())
    rise = min(6.0, (height - 28) / max(tallest, 1))
    seen = np.zeros(bins, int)
    parts = []
    for value, column in zip(numbers, at, strict=True):
        beyond = limit is not None and (value > limit if side == "above" else value < limit)
        y = height - 21 - rise * seen[column]
        seen[column] += 1
        parts.append(
            f'<circle cx="{8 + 7 * column}" cy="{y:.1f}" r="{min(3.0, rise / 2 + 0.4):.1f}" '
            f'fill="var(--{"alarm" if beyond else "accent"})"/>'
        )
    parts.append(f'<line x1="2" x2="{width - 2}" y1="{height - 16}" y2="{height - 16}" stroke="var(--line)"/>')
    ends = [(low, "start"), (high, "end")]
    for value, anchor in ends:
        x = 8 + (value - low) / (high - low) * 7 * (bins - 1)
        parts.append(f'<text x="{x:.1f}" y="{height - 3}" text-anchor="{anchor}">{_minus(value, ".3g")}</text>')
    if limit is not None:
        x = 8 + (limit - low) / (high - low) * 7 * (bins - 1)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 16}" stroke="var(--alarm)" stroke-dasharray="5 3" '
            f'stroke-width="1.5"/><text x="{x:.1f}" y="{height - 3}" text-anchor="middle" style="fill:var(--alarm)">'
            f"alarm {side} {_minus(limit, '.2f')}</text>"
        )
    return svg(width, height, "".join(parts), "largest score of each calibration run")


def _minus(value: float, form: str) -> str:
    return format(value, form).replace("-", "−")


def svg(width: int, height: float, inside: str, said: str) -> str:
    """A picture of that size. said: in words, for those who cannot see it; plain text."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" viewBox="0 0 {width} {height:g}" '
        f'role="img" aria-label="{said}">{inside}</svg>'
    )
