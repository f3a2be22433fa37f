"""Writing the report: one HTML file that needs nothing else, from any folder of traces.

The page that `trajkit view` serves stands in it, with the runs that are shown, between what is said of all runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajkit.errors import InputError
from trajkit.files import write_text
from trajkit.folders import check_own, replacing_folder
from trajkit.live.query import Query
from trajkit.report.collection import collect
from trajkit.report.detectors import alarm_panels, early_panels, evaluation_of, predictor_note
from trajkit.report.outcomes import differences_panel, outcome_panels
from trajkit.report.page import page, source_of
from trajkit.report.panels import Panel, figure_json
from trajkit.report.runs import Shown, shown_runs
from trajkit.report.summary import summarise
from trajkit.tables.words import count

if TYPE_CHECKING:
    from trajkit.detection.store import Detectors
    from trajkit.judging.evaluation import Evaluation
    from trajkit.runs.table import RunTable
    from trajkit.traces.trace import Trace

TEMPLATES = Path(__file__).parent / "templates"
MARK = ".trajkit-report"
"""A file in every folder of a report, so that no other folder is written to."""


def write_report(
    traces: Sequence[Trace],
    out_dir: str | Path,
    detectors: Detectors | None = None,
    evaluation: Evaluation | None = None,
    title: str = "trajkit report",
    max_runs: int | None = None,
    table: RunTable | None = None,
    ids: Sequence[str] = (),
    where: Query | None = None,
    others: Sequence[Trace] = (),
    said_of_others: str = "",
) -> Path:
    """Write `out_dir`/index.html about `traces` and return its path. It opens from the file, offline.

    detectors: add risk, alarms and how well they do. evaluation: that of `judging.fit.fit_detectors`; without it
    the page says of `detectors` what can be said on the runs that they have not seen. ids, where: the runs that are
    shown one by one; by default some of each outcome. max_runs: the most of them, 24 where none are chosen; what is too
    large for one page is left out, and it says so. Everything else counts all runs. others: runs that are shown before
    those, and counted nowhere; said_of_others: what they are, in words. table: of these traces with what is
    `collection.wanted`, where it was read already. The page is written whole or not at all.
    Raises InputError when there is no run, or none that was chosen, max_runs is below 1, `out_dir` is neither new nor
    empty nor of a report, or it cannot be written.
    """
    out = Path(out_dir)
    check_own(out, MARK)
    if max_runs is not None and max_runs < 1:
        raise InputError(f"The 'max_runs' parameter of write_report must be at least 1. Got {max_runs!r} instead.")
    collection = collect(traces if table is None else table, detectors)
    shown = shown_runs(traces, collection, detectors, ids, where, max_runs, others)
    if evaluation is None and detectors is not None:
        evaluation = evaluation_of(collection, detectors)
    sections = {
        "outcomes": outcome_panels(collection),
        "early": early_panels(evaluation, detectors, collection),
        "alarms": alarm_panels(evaluation, detectors, collection),
    }
    text = _render(
        title=title,
        summary=summarise(collection),
        sections=sections,
        differences=differences_panel(collection),
        said_of_shown=_said(shown, len(collection.runs), said_of_others),
        risk_note=predictor_note(collection, detectors),
        payload=_embedded({"runs": shown.documents, "all": len(collection.runs) + shown.others}),
        figures=_embedded(_figures(sections)),
    )
    with replacing_folder(out) as new:
        for name, content in ((MARK, ""), ("index.html", text)):
            write_text(new / name, content)
    return out / "index.html"


def _figures(sections: Mapping[str, Sequence[Panel]]) -> dict[str, Any]:
    panels = [panel for section in sections.values() for panel in section]
    return {panel.key: figure_json(panel.figure) for panel in panels if panel.figure is not None}


def _said(shown: Shown, n_runs: int, said_of_others: str) -> str:
    """Which of the runs are shown."""
    n = len(shown.documents) - shown.others
    first = f"First, counted nowhere else: {count(shown.others, 'run')}. {said_of_others}".strip() + " "
    first = first if shown.others else ""
    if n == n_runs:
        return first.strip()
    said = f"{first}{n:,} of {n_runs:,} runs"
    if shown.chosen:
        all_of_them = "those" if n == shown.n else f"the first of {shown.n:,}"
        return f"{said}, {all_of_them} that were asked for."
    return f"{said}, balanced over outcomes, in the order of the file; none is picked by how it looks."


def _render(**values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    import trajkit

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")}
    scripts = [*page().scripts, get_plotlyjs(), own["report.js"]]
    return environment.get_template("report.html").render(
        **values,
        version=trajkit.__version__,
        sources=" ".join(map(source_of, scripts)),
        styles=[Markup(style) for style in (*page().styles, own["report.css"])],
        body=Markup(page().body),
        scripts=[Markup(script) for script in scripts],
    )


def _embedded(value: Any) -> Any:
    """JSON that is inert inside a script element: no `<`, `>` or `&` in it, whatever a model wrote."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
