"""Many runs: how they ended, and the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trajkit.notebook.pictures import SMALL, Pictures, strongest_of
from trajkit.notebook.style import card, colour_dot, facts, joined, model_name, outcome_of, outcome_tag, told
from trajkit.notebook.tables import table_part
from trajkit.tables.names import OUTCOME_ORDER, outcome_name
from trajkit.tables.words import count, listed, share

if TYPE_CHECKING:
    from trajkit.runs.table import RunTable
    from trajkit.traces.store import Traces
    from trajkit.traces.trace import Trace

FIRST = 6
"""Runs that are shown."""
_MEDIANS = ("n_steps", "n_tokens", "path_length", "tortuosity", "hhi_level", "logprob_mean", "entropy_mean")
_NAMES = 6
"""Of models and families that are named."""


def traces_html(traces: Traces) -> str:
    """Traces as a card: counts by outcome and the first runs."""
    if not len(traces):
        return card("no runs")
    outcomes = [
        "failure" if outcome == "unknown" and success is False else outcome
        for outcome, success in zip(traces.column("outcome"), traces.column("success"), strict=True)
    ]
    groups = len(set(traces.column("group_id")))
    kinds = Counter(kind or "none" for kind in traces.column("effects_kind"))
    values = {
        "model": _named(traces.column("model"), model_name),
        "families": _named([name for name in traces.column("task_set") if name]),
        "effects": listed([f"{kind} ({n:,})" if len(kinds) > 1 else kind for kind, n in kinds.most_common()]),
    }
    first = first_of_groups(traces.column("group_id"))
    runs = "".join(_run(traces[at]) for at in first)
    more = len(traces) - len(first)
    note = f'<p class="note">Runs of the first groups; {more:,} more. traces[0] shows one whole.</p>'
    return card(
        count(len(traces), "run"),
        shares_of(outcomes),
        facts(values),
        f'<div class="runs">{runs}</div>',
        note if more > 0 else "",
        about=f"of {count(groups, 'group')} (images or questions)",
    )


def first_of_groups(groups: Sequence[str]) -> list[int]:
    """The first run of each of the first groups; runs after these where there are few groups."""
    first = list({group: at for at, group in reversed([*enumerate(groups)])}.values())[::-1]
    others = sorted(set(range(min(len(groups), 2 * FIRST))) - set(first))
    return sorted([*sorted(first)[:FIRST], *others][:FIRST])


def shares_of(outcomes: Sequence[str]) -> str:
    """How runs ended: a bar of shares, and their counts."""
    counts = Counter(outcomes)
    known = [name for name in OUTCOME_ORDER if counts[name]] + sorted(set(counts) - set(OUTCOME_ORDER))
    total = sum(counts.values())
    parts = "".join(
        f'<i style="flex:{counts[name]};background:var(--{name if name in OUTCOME_ORDER else "unknown"})"></i>'
        for name in known
    )
    keys = "".join(
        f'<span class="key">{colour_dot(name)}{told(outcome_name(name), 40)} <b>{counts[name]:,}</b> '
        f'<span class="muted">{share(counts[name] / total)}</span></span>'
        for name in known
    )
    return f'<div class="share">{parts}</div><div class="legend">{keys}</div>'


def run_table_html(runs: RunTable) -> str:
    """A RunTable as a card: what there is, and the medians of its metrics by outcome."""
    from trajkit.judging.comparison import METRICS, medians

    if not len(runs):
        return card("no runs")
    values = {
        "model": _named([model.name for model in runs.models], model_name),
        "families": _named(runs.values("task_set")),
    }
    parts = [
        shares_of(runs.rows["outcome"].to_pylist()),
        facts(values),
        f'<p class="note">{told(runs.summary(), 2000)}</p>',
    ]
    if set(METRICS) <= set(runs.table):
        table = medians(runs.table)
        some = replace(table, frame=table.frame[table.frame["metric"].isin(("runs", "groups", *_MEDIANS))])
        parts.append(table_part(some, "Medians by outcome, at the end of thinking"))
    note = "table has a row a run and all metrics, frame a row a run and step; tk.judging.compare_runs tests them."
    parts.append(f'<p class="note">{note}</p>')
    return card(f"RunTable: {count(len(runs), 'run')}", *parts)


def _run(trace: Trace) -> str:
    pictures = Pictures.of(trace)
    effects = strongest_of(trace)
    said = "regions by their strongest effect on a thought"
    drawn = pictures.plain(SMALL) if effects is None else pictures.over(effects, said, SMALL) or pictures.plain(SMALL)
    answer = f"<b>{told(trace.answer, 60)}</b>" if trace.answer else "no answer"
    target = f", target {told(trace.target, 60)}" if trace.target else ""
    alarm = next((at for at, step in enumerate(trace.steps, 1) if step.alarm), None)
    facts_said = joined(
        (
            count(int(trace.thinking.sum()), "step"),
            "" if alarm is None else f'<span class="alarm">ALARM after step {alarm}</span>',
        )
    )
    return (
        f'<div class="run">{drawn}<div>{outcome_tag(outcome_of(trace))}<div>{told(trace.question, 90)}</div>'
        f'<div>{answer}{target}</div><div class="muted">{facts_said}</div></div></div>'
    )


def _named(names: Sequence[str], said: Callable[[str], str] = told) -> str:
    """The different names, the most frequent first, HTML."""
    found = [said(name) for name, _ in Counter(names).most_common() if name]
    more = len(found) - _NAMES
    return listed([*found[:_NAMES], *([f"{more} more"] if more > 0 else [])])
