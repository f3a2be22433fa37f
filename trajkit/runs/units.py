"""What numbers of tokens and entropies of runs are: a log may tell words alone, and of a distribution its top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from trajkit.tables.words import count, listed

if TYPE_CHECKING:
    from trajkit.runs.table import RunTable

TOKENS, WHOLE = "tokens", "whole"


class Units(NamedTuple):
    """lengths: what the runs count → how many runs do, "tokens" or "words". entropies: what their entropies are → how
    many runs have such ones, "whole" or a bound, as "lower bound from 5"; of runs that have any."""

    lengths: Mapping[str, int]
    entropies: Mapping[str, int]

    @property
    def card(self) -> dict[str, Any]:
        """What detectors that were made from such runs keep of it: nothing where all is as trajkit collects it."""
        told = {"counted_in": (self.lengths, TOKENS), "entropies": (self.entropies, WHOLE)}
        return {name: sorted(kinds) for name, (kinds, usual) in told.items() if kinds.keys() - {usual}}


def units_of(runs: RunTable) -> Units:
    """Of the runs that have a thinking step. Where prefix features were not read, every run may have entropies."""
    rows = runs.rows.filter(pa.array(runs.told)).select(["counted_in", "entropy_is"])
    lengths, entropies = (rows[name].to_pylist() for name in rows.column_names)
    if "prefixes" in runs.rows.schema.names:
        has = runs.table.loc[runs.told, "entropy_mean"].notna()
        entropies = [kind for kind, own in zip(entropies, has, strict=True) if own]
    return Units(_counts(lengths), _counts(kind or WHOLE for kind in entropies))


def of_units(runs: RunTable) -> str:
    """Which lengths and entropies cannot be compared with which, in a sentence or two; empty where all can and are what
    trajkit collects."""
    lengths, entropies = units_of(runs)
    said = []
    if words := lengths.get("words", 0):
        n = sum(lengths.values())
        mixed = " Lengths of the two kinds cannot be compared." if words < n else ""
        whose = f"{words:,} of {count(n, 'run')}" if words < n else "all runs"
        said.append(f"Lengths of {whose} are in words, as no log told their tokens.{mixed}")
    if bounds := {kind: n for kind, n in entropies.items() if kind != WHOLE}:
        n = sum(entropies.values())
        mixed = " Entropies of different kinds cannot be compared." if len(entropies) > 1 else ""
        whose = f"{sum(bounds.values()):,} of {count(n, 'run')}" if len(entropies) > 1 else "all runs that have any"
        said.append(f"Entropies of {whose} are lower bounds ({_bounds(bounds)}).{mixed}")
    return " ".join(said)


def unlike(card: Mapping[str, Any], sets: Iterable[str], runs: RunTable) -> str:
    """Which of these runs count otherwise than those that detectors were made from, and what follows, in a sentence;
    empty where none does. card: of the detectors (`Units.card`). sets: the feature sets that they read."""
    lengths, entropies = units_of(runs)
    known = {name: card.get(name) or [usual] for name, usual in (("counted_in", TOKENS), ("entropies", WHOLE))}
    said = []
    if "length" in sets and (n := _others(lengths, known["counted_in"])):
        said.append(
            f"lengths of {n:,} of {count(sum(lengths.values()), 'run')} are other than those that these detectors were "
            f"made from (in {listed(known['counted_in'])})"
        )
    if "uncertainty" in sets and (n := _others(entropies, known["entropies"])):
        said.append(
            f"entropies of {n:,} of {count(sum(entropies.values()), 'run')} are other than those that these detectors "
            f"were made from ({listed([_entropy(kind) for kind in known['entropies']])})"
        )
    if not said:
        return ""
    todo = "Fit detectors on runs like these, or give these their tokens with `trajkit attribute`."
    return f"Risks of such runs mean little and the promise does not hold for them: {'; '.join(said)}. {todo}"


def _others(kinds: Mapping[str, int], known: Iterable[str]) -> int:
    return sum(n for kind, n in kinds.items() if kind not in known)


def _entropy(kind: str) -> str:
    return "of the whole distribution" if kind == WHOLE else kind


def _bounds(kinds: Iterable[str]) -> str:
    most = sorted({kind.removeprefix("lower bound from ") for kind in kinds}, key=lambda text: (len(text), text))
    return f"of the likeliest {listed(most[:3]) if len(most) < 4 else f'{most[0]} to {most[-1]}'} tokens"


def _counts(kinds: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(kinds).items()))
