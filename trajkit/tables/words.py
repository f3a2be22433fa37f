"""How each kind of number is said: one formatter a kind, for terminal, Markdown and HTML alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trajkit.tables.estimate import Estimate, Part

NONE = "–"
"""Where there is no number."""
_MORE = 4
"""Decimals that may be added to tell a number from a null value."""


def estimate(found: Estimate, digits: int = 2, sign: bool = False, null: float | None = None) -> str:
    """`0.61 (0.55–0.67)`, `−0.02 (−0.10 to 0.05)`; the value alone without an interval.

    sign: also of positive numbers. null: a value that the interval may or may not hold; as many more digits are shown
    as rounding would hide which, up to _MORE.
    """
    value, low, high = found
    if not math.isfinite(value):
        return NONE if math.isnan(value) else _plain(value, digits, sign)
    if not found.has_interval:
        return _plain(value, digits, sign)
    if null is not None:
        digits = max(_telling(end, null, digits) for end in (low, high))
    between = "–" if low >= 0 and not sign else " to "
    ends = between.join(_plain(end, digits, sign) for end in (low, high))
    return f"{_plain(value, digits, sign)} ({ends})"


def auc(found: Estimate) -> str:
    """An AUC, told from 0.5 or not; a dash without an interval: a bare one, of four runs say, is not to be read."""
    return estimate(found, null=0.5) if found.has_interval else NONE


def judged(found: Estimate) -> str:
    """An AUC as `auc`, but one that has no interval with the word that it has none: where a dash would not do."""
    bare = math.isfinite(found.value) and not found.has_interval
    return f"{estimate(found)}, no interval" if bare else auc(found)


def difference(found: Estimate) -> str:
    """A difference, a Cliff's δ or an effect in standard deviations, told from 0 or not."""
    return estimate(found, sign=True, null=0.0)


def slope(found: Estimate) -> str:
    """A slope of calibration, told from 1 or not."""
    return estimate(found, null=1.0)


def fine(found: Estimate | float) -> str:
    """A figure whose differences are of thousandths, such as a Brier score: three decimals, told from 0 or not."""
    return estimate(_estimated(found), 3, null=0.0)


def figure(found: Estimate | float) -> str:
    """A figure of faithfulness, or another on which methods differ in the third decimal: three, and two above 1."""
    found = _estimated(found)
    return estimate(found, 3 if abs(found.value) <= 1 else 2)


def fine_difference(found: Estimate) -> str:
    """As `difference`, three decimals."""
    return estimate(found, 3, sign=True, null=0.0)


def score(value: float) -> str:
    """A risk, an AUC or a concentration: two decimals."""
    return _plain(value, 2, False)


def apart(value: float, limit: float) -> tuple[str, str]:
    """A score and the threshold that it is held against: two decimals, or as many more as tell one from the other."""
    digits = _telling(value, limit, 2)
    return _plain(value, digits, False), _plain(limit, digits, False)


def signed(value: float) -> str:
    """A difference without interval: two decimals, always with its sign."""
    return _plain(value, 2, True)


def metric(value: float) -> str:
    """A metric, a step or a number of tokens: three significant digits, thousands in full."""
    if not math.isfinite(value):
        return _plain(value, 0, False)
    return _minus(f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}")


def p_value(p: float) -> str:
    """A p-value: three decimals, or that it is smaller; more where rounding would hide on which side of 0.05 it is."""
    return NONE if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.{_telling(p, 0.05, 3)}f}"


def share(value: float, null: float | None = None) -> str:
    """A share as per cent: 49 %, 4.1 %, 0.0 %. null: a share that it is held against, as in `estimate`."""
    if math.isnan(value):
        return NONE
    digits = int(abs(value) < 0.0995)
    if null is not None:
        digits = _telling(value, null, digits + 2) - 2
    return _minus(f"{100 * value:.{digits}f} %")


def shares(found: Estimate, null: float | None = None) -> str:
    """A share with its interval: `8.4 % (6.3–11.2 %)`. null: a share that all three are held against, as in
    `estimate`."""
    if not found.has_interval:
        return share(found.value, null)
    digits = int(found.value < 0.0995)
    if null is not None:
        digits = max(_telling(each, null, digits + 2) - 2 for each in found)
    value, low, high = (f"{100 * each:.{digits}f}" for each in found)
    return f"{value} % ({low}–{high} %)"


def part(found: Part) -> str:
    """A count and its share: `84 (18 %)`."""
    return f"{found.n:,} ({share(found.n / found.of)})" if found.of else f"{found.n:,}"


def promise(alpha: float) -> str:
    """A bound on a share, as per cent and never rounded: 10 %, 2.5 %."""
    return f"{100 * alpha:g} %"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 run`, `2 runs`, `12,000 runs`."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """`0.4 s`, `40 s`, `3 min`, `2.5 h`."""
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def failing(runs: int, failures: int) -> str:
    """Runs, and the failing ones of them: `3,120 (1,003)`; `6 (all)` and `6 (none)` where they ended alike."""
    return f"{runs:,} ({'none' if failures == 0 else 'all' if failures == runs else f'{failures:,}'})"


def sentence(text: str) -> str:
    """`text` with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _estimated(found: Estimate | float) -> Estimate:
    return found if isinstance(found, Estimate) else Estimate(found)


def _telling(value: float, null: float, digits: int) -> int:
    """Decimals by which a number that is not the null value is not written like it: `digits`, and _MORE at most."""
    more = range(digits, digits + _MORE + 1)
    return next((n for n in more if value == null or round(value, n) != round(null, n)), more[-1])


def _plain(value: float, digits: int, sign: bool) -> str:
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return _minus(f"{rounded:{'+' if sign else ''}.{digits}f}")


def _minus(digits: str) -> str:
    return digits.replace("-", "−")
