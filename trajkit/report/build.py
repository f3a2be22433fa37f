"""Writing the report: one HTML file that needs nothing else, from any folder of traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajkit.errors import InputError
from trajkit.files import write_text
from trajkit.folders import check_own, replacing_folder
from trajkit.report.collection import collect
from trajkit.report.detectors import alarm_panels, early_panels, evaluation_of, predictor_note
from trajkit.report.outcomes import differences_panel, outcome_panels
from trajkit.report.runs import figure_json, run_payload
from trajkit.report.summary import summarise

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
    max_runs: int = 24,
    table: RunTable | None = None,
) -> Path:
    """Write `out_dir`/index.html about `traces` and return its path. It opens from the file, offline.

    detectors: add risk, alarms and how well they do. evaluation: that of `judging.fit.fit_detectors`; without it
    the page says of `detectors` what can be said on the runs that they have not seen. max_runs: runs shown one by one,
    balanced over outcomes; everything else counts all runs. table: of these traces with what is `collection.wanted`,
    where it was read already. The page is written whole or not at all.
    Raises InputError when there is no run, max_runs is below 1, `out_dir` is neither new nor empty nor of a report, or
    it cannot be written.
    """
    out = Path(out_dir)
    check_own(out, MARK)
    if max_runs < 1:
        raise InputError(f"The 'max_runs' parameter of write_report must be at least 1. Got {max_runs!r} instead.")
    collection = collect(traces if table is None else table, detectors)
    if evaluation is None and detectors is not None:
        evaluation = evaluation_of(collection, detectors)
    payload = run_payload(traces, collection, detectors, max_runs)
    sections = {
        "outcomes": outcome_panels(collection),
        "early": early_panels(evaluation, detectors),
        "alarms": alarm_panels(evaluation, detectors, collection),
    }
    figures = {
        panel.key: figure_json(panel.figure)
        for panels in sections.values()
        for panel in panels
        if panel.figure is not None
    }
    page = _render(
        title=title,
        summary=summarise(collection),
        sections=sections,
        differences=differences_panel(collection),
        n_shown=len(payload["runs"]),
        n_runs=len(collection.runs),
        risk_note=predictor_note(collection, detectors),
        has_risk=detectors is not None,
        payload=_embedded(payload | {"figures": figures}),
    )
    with replacing_folder(out) as new:
        for name, text in ((MARK, ""), ("index.html", page)):
            write_text(new / name, text)
    return out / "index.html"


def _render(**values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    import trajkit

    def own(name: str) -> Markup:
        return Markup((TEMPLATES / name).read_text(encoding="utf-8"))

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        **values,
        version=trajkit.__version__,
        css=own("page.css"),
        script=Markup("\n").join(own(name) for name in ("canvas.js", "page.js")),
        plotly=Markup(get_plotlyjs()),
    )


def _embedded(value: Any) -> Any:
    """JSON that is inert inside a script element: no `<`, `>` or `&` in it, whatever a model wrote."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
