"""Results: comparisons of runs, fits and their evaluation, a monitor replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajkit.notebook.models import detectors_html
from trajkit.notebook.style import card, told
from trajkit.notebook.tables import table_part
from trajkit.tables.table import Table
from trajkit.tables.words import count

if TYPE_CHECKING:
    from trajkit.judging.alarms import Replay
    from trajkit.judging.comparison import Comparison
    from trajkit.judging.evaluation import Evaluation
    from trajkit.judging.fit import FitResult

_STEPS = 5
"""Places of a table of AUCs that stand side by side."""


def comparison_html(comparison: Comparison) -> str:
    """A Comparison as a card: every metric and pair, and how many could be told apart."""
    told_apart = sum(one.told_apart for one in comparison.differences)
    title = f"{told_apart} of {count(len(comparison.differences), 'difference')} told apart"
    return card(title, table_part(comparison.table()))


def fit_html(fit: FitResult) -> str:
    """Detectors and how they did, two cards."""
    return detectors_html(fit.detectors) + evaluation_html(fit.evaluation)


def evaluation_html(found: Evaluation) -> str:
    """An Evaluation as a card: AUCs by step and at the end, and what the monitor did."""
    from trajkit.judging.layout import areas_across, macro_areas

    parts = []
    if found.split is not None:
        parts.append(table_part(Table(found.split), "Runs, split by group"))
    parts.append(
        table_part(areas_across(found.auc_by_step, "step", _STEPS), "AUC of failure (95 %), runs still thinking")
    )
    if found.outcome_auc is not None:
        table, runs = macro_areas(found.outcome_auc)
        parts.append(table_part(table, f"Macro AUC of the outcome, at the end of thinking, of {runs}"))
    note = f'<p class="note">{told(found.note, 1000)}</p>' if found.note else ""
    return card("On the runs held out", *parts, *_replayed(found), note)


def replay_html(found: Replay) -> str:
    """A monitor replayed over saved runs, as a card."""
    return card(f"A monitor over {count(len(found.runs), 'run')}", *_replayed(found))


def _replayed(found: Replay) -> list[str]:
    from trajkit.judging.layout import caught, false_alarm_rates, saved

    drift = "" if found.drift is None else f'<p class="note">{told(found.drift.message, 1000)}</p>'
    return [
        table_part(false_alarm_rates(found.false_alarms, found.check), "False alarms"),
        f'<p class="note">{told(found.check.message, 1000)}</p>{drift}',
        table_part(caught(found.power), "Failing runs that were alarmed"),
        table_part(saved(found.tokens_saved), "Share of thinking tokens after the alarm"),
    ]
