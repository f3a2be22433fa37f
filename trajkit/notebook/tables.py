"""Tables and single numbers with their intervals."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from trajkit.notebook.style import card, told
from trajkit.tables.table import Table
from trajkit.tables.words import count, estimate

if TYPE_CHECKING:
    from trajkit.stats.auc import AUC
    from trajkit.tables.estimate import Estimate

ROWS = 40
"""Rows that are shown."""


def table_html(table: Table) -> str:
    """A Table as a card."""
    return card("", table_part(table))


def table_part(table: Table, title: str = "") -> str:
    """A Table within a card, its note below it."""
    headings, rows, numeric = table.shown
    kinds = [' class="num"' if number else "" for number in numeric]
    head = "".join(f"<th{kind}>{told(name)}</th>" for name, kind in zip(headings, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{told(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows[:ROWS]
    )
    more = [f"{count(len(rows) - ROWS, 'more row')} not shown: .plain() has all."] if len(rows) > ROWS else []
    notes = [*more, *([told(table.note, 2000)] if table.note else [])]
    said = "".join(f'<p class="note">{note}</p>' for note in notes)
    name = f"<h4>{html.escape(title)}</h4>" if title else ""
    return f'{name}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{said}'


def estimate_html(found: Estimate) -> str:
    """A number with its interval as a card."""
    about = "95 % interval in brackets" if found.has_interval else "no interval"
    return card(html.escape(estimate(found)), about=about)


def auc_html(found: AUC) -> str:
    """An AUC as a card: with its interval, beside 0.5, and what it is of."""
    from trajkit.tables.estimate import Estimate
    from trajkit.tables.words import judged

    value = Estimate(found.value, found.low, found.high)
    beside = {
        "above": "above 0.5: higher scores go with positives",
        "below": "below 0.5: higher scores go with negatives",
        "not told from": "not told from 0.5, which is chance",
        "no interval": "too few to tell it from 0.5, which is chance",
    }[value.beside(0.5)]
    about = f"{count(found.n_pos, 'positive row')}, {count(found.n_neg, 'negative row')}; {found.method}"
    return card(f"AUC {judged(value)}", f"<p>{beside}</p>", about=about)
