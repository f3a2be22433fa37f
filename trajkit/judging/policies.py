"""Policies replayed on saved runs: what would have come of each run, and at how many tokens.

Every saved run stands once as the first generation of its question; further ones are the question's other saved runs,
in turn. What a policy does to the text itself (answer now, going on from a step, a hint) cannot be replayed: it is
generated, and its `Play` is measured like the others (`worth.Worth`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.alarm import alarm_rows
from trajkit.detection.sources import require_runs
from trajkit.detection.splits import failures
from trajkit.errors import InputError
from trajkit.stats.resampling import Floats, numbered
from trajkit.tables.words import count

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.traces.trace import Trace

SEEN_AFTER = 1
"""Tokens after a sentence by which it is seen to have ended; a policy acts then at the soonest."""


@dataclass(frozen=True, eq=False)
class SavedRuns:
    """R saved runs whose success is known, those of one question behind one another, and their n thinking steps.

    runs: transcript_id group_id answer ("" for none) right (1, 0) tokens (all that were generated). question: (R,) a
    number for each question, rising. starts: (R,) first step of each run. rows: (n,) the step's row in the frame that
    they came from. used: (n,) tokens generated when the step is seen to have ended.

    See also: `Worth`, `Policy`.

    >>> from trajkit.judging.policies import ends
    >>> ids = set(frame["transcript_id"])
    >>> some = (traces[i] for i, name in enumerate(traces.column("transcript_id")) if name in ids)
    >>> saved = tk.judging.SavedRuns.of(frame, ends(some))
    >>> alarms = saved.alarms(detectors.predictor.risks(frame), monitor.threshold)
    >>> len(saved), int((alarms >= 0).sum())
    (396, 55)
    >>> print(f"{saved.right.mean():.2f} {saved.answered.mean():.2f}")
    0.59 0.98
    >>> saved.further(1)[:3]  # another run of the same question stands for asking again
    array([1, 2, 3])
    """

    runs: pd.DataFrame
    question: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    used: Floats

    @classmethod
    def of(cls, frame: pd.DataFrame, ends: pd.DataFrame) -> SavedRuns:
        """From prefix features, as `RunTable.frame`, and how each run ended, as `ends` tells it: transcript_id,
        question, answer ("" for none; one answer is always the same text), tokens (all that were generated).

        Runs of unknown success are left out. Raises InputError where columns are missing, or a run's end is.
        """
        import pandas as pd

        require_runs(frame, "SavedRuns.of")
        if missing := {"transcript_id", "question", "answer", "tokens"} - set(ends):
            raise InputError(f"the ends of runs need the columns {', '.join(sorted(missing))}.")
        steps = pd.DataFrame(
            {
                "transcript_id": frame["transcript_id"].astype(str).to_numpy(),
                "group_id": frame["group_id"].astype(str).to_numpy(),
                "right": 1.0 - failures(frame),
                "step": frame["step"].to_numpy(int),
                "used": frame["n_tokens"].to_numpy(float) + SEEN_AFTER,
                "row": np.arange(len(frame)),
            }
        ).dropna(subset=["right"])
        own = ends.assign(transcript_id=ends["transcript_id"].astype(str))[
            ["transcript_id", "question", "answer", "tokens"]
        ]
        steps = steps.merge(own, "left", "transcript_id", validate="many_to_one")
        if without := steps.loc[steps["tokens"].isna(), "transcript_id"].nunique():
            raise InputError(f"of {count(without, 'run')} it is not told how they ended.")
        steps = steps.sort_values(["group_id", "question", "transcript_id", "step"], ignore_index=True)
        first = ~steps["transcript_id"].duplicated()
        starts = np.flatnonzero(first)
        runs = steps.loc[first, ["transcript_id", "group_id", "answer", "right", "tokens"]].reset_index(drop=True)
        last = np.append(starts[1:], len(steps)) - 1
        runs["tokens"] = np.maximum(runs["tokens"].to_numpy(float), steps["used"].to_numpy()[last])
        question = numbered(steps.loc[first, "group_id"], steps.loc[first, "question"]).astype(np.int64)
        question = np.cumsum(np.append(0, np.diff(question) != 0))
        return cls(runs, question, starts, steps["row"].to_numpy(), steps["used"].to_numpy(float))

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def right(self) -> Floats:
        """(R,) 1 where the run's answer is right."""
        return self.runs["right"].to_numpy(float)

    @property
    def answered(self) -> Floats:
        """(R,) 1 where the run gave an answer."""
        return np.asarray(self.runs["answer"].ne(""), float)

    @property
    def tokens(self) -> Floats:
        """(R,) all that a run generated."""
        return self.runs["tokens"].to_numpy(float)

    @property
    def step(self) -> NDArray[np.int64]:
        """(n,) number of each step in its run, from 1."""
        lengths = np.diff(np.append(self.starts, len(self.rows)))
        return np.arange(len(self.rows)) - np.repeat(self.starts, lengths) + 1

    def alarms(self, risks: ArrayLike, threshold: float) -> NDArray[np.int64]:
        """(R,) the step, among the n, at which each run is alarmed, -1 where it is not. risks: of the frame's rows."""
        return alarm_rows(np.asarray(risks, float)[self.rows], threshold, self.starts)

    def further(self, attempt: int) -> NDArray[np.int64]:
        """(R,) for each run the saved run that stands for a further generation of its question: 0 is the run itself.

        Raises InputError where a question has too few runs.
        """
        first = np.searchsorted(self.question, self.question)
        size = np.bincount(self.question)[self.question]
        if (few := np.unique(self.question[size <= attempt])).size:
            raise InputError(
                f"{count(attempt + 1, 'run')} of each question are needed, and {count(len(few), 'question')} "
                f"{'has' if len(few) == 1 else 'have'} fewer."
            )
        return first + (np.arange(len(self)) - first + attempt) % size


def ends(traces: Iterable[Trace]) -> pd.DataFrame:
    """How saved runs ended: transcript_id, question, answer (in lower case, single spaces, without a final stop; "" for
    none), tokens (all that were generated, those of tags, of the answer and of its end too)."""
    import pandas as pd

    table = [
        {
            "transcript_id": trace.transcript_id,
            "question": trace.question,
            "answer": " ".join(trace.answer.lower().split()).rstrip(". "),
            "tokens": trace.steps[-1].token_end + (trace.steps[-1].kind == "answer"),
        }
        for trace in traces
        if trace.steps
    ]
    return pd.DataFrame(table, columns=["transcript_id", "question", "answer", "tokens"])


class Stops(NamedTuple):
    """chance: (R,) that a run is stopped. used: (R,) tokens expected until it is, or ends."""

    chance: Floats
    used: Floats


class Play(NamedTuple):
    """What came of each run standing as a first generation, (R,) each: right and answered, in [0, 1]; tokens, those of
    all generations of it together."""

    right: Floats
    answered: Floats
    tokens: Floats


def stops(saved: SavedRuns, alarms: NDArray[np.int64]) -> Stops:
    """At the alarms that `SavedRuns.alarms` finds."""
    alarmed = alarms >= 0
    return Stops(alarmed.astype(float), np.where(alarmed, saved.used[alarms], saved.tokens))


def random_stops(saved: SavedRuns, alarms: NDArray[np.int64]) -> Stops:
    """As often after each step as the alarms, of the runs that come so far, but whichever run it is: expectations."""
    step, rate = saved.step, _rates(saved, alarms)
    left = np.cumprod(1 - rate)  # that a run is not stopped by step s
    here = (np.append(1.0, left[:-1]) - left)[step]
    lasting = np.asarray(left[step[_ends(saved)]], float)
    used = np.add.reduceat(here * saved.used, saved.starts) + lasting * saved.tokens
    return Stops(1 - lasting, used)


def random_alarms(saved: SavedRuns, alarms: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """(R,) alarms as `random_stops` expects them, drawn."""
    step = saved.step
    hit = np.random.default_rng(seed).random(len(step)) < _rates(saved, alarms)[step]
    return alarm_rows(hit, 0.5, saved.starts)


def _rates(saved: SavedRuns, alarms: NDArray[np.int64]) -> Floats:
    """(most steps + 1,) share that is alarmed after each step, by its number, of the runs that come so far without."""
    step = saved.step
    hit = np.bincount(step[alarms[alarms >= 0]], minlength=step.max(initial=0) + 1)
    last = np.where(alarms >= 0, alarms, _ends(saved))
    there = np.bincount(step[last], minlength=len(hit))[::-1].cumsum()[::-1]
    return hit / np.maximum(there, 1)


def _ends(saved: SavedRuns) -> NDArray[np.int64]:
    """(R,) last step of each run."""
    return np.append(saved.starts[1:], len(saved.rows)) - 1


def whole(saved: SavedRuns) -> Play:
    """Every run to its end, whatever a monitor says."""
    return Play(saved.right, saved.answered, saved.tokens)


def stop(saved: SavedRuns, at: Stops) -> Play:
    """A stopped run gives no answer."""
    going_on = 1 - at.chance
    return Play(going_on * saved.right, going_on * saved.answered, at.used)


def ask_again(saved: SavedRuns, at: Stops, tries: int = 1) -> Play:
    """A stopped run is followed by another of its question, `tries` at most; the last one goes to its end."""
    right, answered, tokens = whole(saved)
    now = saved.further(tries)
    right, answered, tokens = right[now], answered[now], tokens[now]
    for attempt in reversed(range(tries)):
        now = saved.further(attempt)
        chance = at.chance[now]
        right = (1 - chance) * saved.right[now] + chance * right
        answered = (1 - chance) * saved.answered[now] + chance * answered
        tokens = at.used[now] + chance * tokens
    return Play(right, answered, tokens)


def majority(saved: SavedRuns, k: int) -> Play:
    """Self-consistency: the commonest answer of k generations, of several the one that was given first."""
    votes = np.stack([saved.further(attempt) for attempt in range(k)], axis=1)  # (R, k)
    answer = numbered(saved.runs["answer"])[votes]
    answered = saved.answered[votes]
    same = (answer[:, :, None] == answer[:, None, :]).sum(2) * answered
    chosen = votes[np.arange(len(saved)), same.argmax(1)]
    return Play(saved.right[chosen], answered.max(1), saved.tokens[votes].sum(1))


def windowed_entropy(frame: pd.DataFrame, window: float) -> Floats:
    """(n,) mean entropy of the last `window` tokens after each step, nats; of all tokens so far where there are fewer.

    frame: prefix features, a run's steps in order and behind one another. Within a step every token has its mean.
    """
    tokens, step = frame["n_tokens"].to_numpy(float), frame["step"].to_numpy(float)
    new = step == 1
    own = np.diff(tokens, prepend=0.0)
    own[new] = tokens[new]
    sums = frame["entropy_mean"].to_numpy(float) * step
    of_step = np.diff(sums, prepend=0.0)
    of_step[new] = sums[new]
    at, total = (np.append(0.0, np.cumsum(values)) for values in (own, own * of_step))
    start = at[1:] - tokens  # where the run began
    low = np.maximum(at[1:] - window, start)
    return (total[1:] - np.interp(low, at, total)) / (at[1:] - low)
