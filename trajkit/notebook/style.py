"""What all cards share: colours in light and dark, the frame, names and values, and text made safe."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING

from trajkit.tables.names import OUTCOME_ORDER, outcome_name
from trajkit.text import clean

if TYPE_CHECKING:
    from trajkit.traces.trace import Trace

LONGEST = 400
"""Characters of a text that are shown; a step may be as long as a model likes."""

_CSS = """
.trajkit{color-scheme:light dark;
--ground:light-dark(#fff,#1b1e22);--ink:light-dark(#1f2933,#e6e9ec);--muted:light-dark(#596572,#a6b0ba);
--line:light-dark(#dde2e7,#3a4148);--soft:light-dark(#f4f6f8,#252a30);--track:light-dark(#dfe4e9,#424a52);
--accent:light-dark(#23527c,#8fbfe8);--alarm:light-dark(#b93a08,#ff8a55);--warm:light-dark(#fdf0e9,#3a2318);
--support:light-dark(#c21d1d,#ff7b72);--oppose:light-dark(#2b62c9,#79b0ff);
--success:light-dark(#1b8a6b,#3fb992);--hallucination:light-dark(#d1590b,#f0854a);
--reasoning_failure:light-dark(#7a57b0,#a98be0);--failure:light-dark(#8f6a2a,#c9a256);
--unknown:light-dark(#7b848f,#9aa3ad);
box-sizing:border-box;max-width:960px;padding:12px 16px 14px;border:1px solid var(--line);border-radius:8px;
background:var(--ground);color:var(--ink);text-align:left;white-space:normal;overflow-wrap:anywhere;
font:13.5px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
body[data-jp-theme-light=true] .trajkit,html[data-theme=light] .trajkit,.vscode-light .trajkit{color-scheme:light}
body[data-jp-theme-light=false] .trajkit,html[data-theme=dark] .trajkit,.vscode-dark .trajkit{color-scheme:dark}
.trajkit *{box-sizing:border-box}
.trajkit img,.trajkit svg{display:block;max-width:100%;height:auto}
.trajkit img{border-radius:4px}
.trajkit p{margin:0}
.trajkit .title{font-size:15px;font-weight:650;margin:0 0 2px}
.trajkit .muted{color:var(--muted);font-size:12.5px}
.trajkit .note{color:var(--muted);font-size:12.5px;margin-top:8px;max-width:820px}
.trajkit .row{display:flex;flex-wrap:wrap;gap:14px 20px;align-items:flex-start;margin-top:10px}
.trajkit .row>figure,.trajkit figure{margin:0}
.trajkit figcaption{color:var(--muted);font-size:12px;margin-top:3px}
.trajkit .grow{flex:1 1 260px;min-width:0}
.trajkit .tag{display:inline-block;border:1px solid var(--line);border-radius:10px;padding:0 8px;font-size:12px;
line-height:19px;white-space:nowrap;vertical-align:1px}
.trajkit .tag i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}
.trajkit .alarm{color:var(--alarm);font-weight:600}
.trajkit .up{color:var(--support);font-weight:600}.trajkit .down{color:var(--oppose);font-weight:600}
.trajkit dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:6px 0 0}
.trajkit dt{color:var(--muted)}.trajkit dd{margin:0;min-width:0}
.trajkit .steps{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:8px;margin-top:12px}
.trajkit .step{border:1px solid var(--line);border-radius:6px;padding:7px 8px;background:var(--soft);min-width:0}
.trajkit .step.alarmed{border-color:var(--alarm);background:var(--warm)}
.trajkit .step img{width:100%;margin:3px 0 5px}
.trajkit .step .n{display:flex;justify-content:space-between;gap:6px;color:var(--muted);font-size:12px}
.trajkit .step .said{font-size:13px;line-height:1.35}
.trajkit .step .said.answer{font-weight:650}
.trajkit .scroll{overflow-x:auto;margin-top:6px}
.trajkit table{border-collapse:collapse;margin:0;font-size:13px;font-variant-numeric:tabular-nums;border:0}
.trajkit th,.trajkit td{padding:4px 12px 4px 0;border:0;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top;background:none;color:inherit;max-width:340px}
.trajkit th{color:var(--muted);font-weight:500;font-size:12.5px;vertical-align:bottom}
.trajkit .num{text-align:right;white-space:nowrap}
.trajkit h4{margin:14px 0 0;font-size:13.5px;font-weight:650;color:inherit}
.trajkit .runs{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:8px;margin-top:10px}
.trajkit .run{display:flex;gap:10px;border:1px solid var(--line);border-radius:6px;padding:8px;background:var(--soft);
align-items:flex-start}
.trajkit .run img{width:76px;flex:none}.trajkit .run>div{min-width:0;line-height:1.35}
.trajkit .share{display:flex;height:12px;border-radius:6px;overflow:hidden;margin:8px 0 6px;gap:1px}
.trajkit .share i{display:block;min-width:2px}
.trajkit .legend{display:flex;flex-wrap:wrap;gap:2px 16px}
.trajkit .key{white-space:nowrap}
.trajkit .key i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px}
.trajkit svg text{font:11px system-ui,sans-serif;fill:var(--muted)}
"""


def card(title: str, *parts: str, about: str = "") -> str:
    """A framed whole. title, parts: HTML. about: a line in small letters below the title, HTML."""
    head = (f'<p class="title">{title}</p>' if title else "") + (f'<p class="muted">{about}</p>' if about else "")
    return f'<div class="trajkit"><style>{_CSS}</style>{head}{"".join(parts)}</div>'


def told(text: str, longest: int = LONGEST) -> str:
    """Text of a model, a file or a person, as HTML that holds no markup, cut after `longest` characters."""
    said = clean(text[: longest + 1])
    return html.escape(said if len(text) <= longest else said[:longest].rstrip() + " …")


def facts(values: Mapping[str, str]) -> str:
    """Names and their values, HTML, one below the other; those without a value are left out."""
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in values.items() if value)
    return f"<dl>{rows}</dl>"


def outcome_tag(outcome: str) -> str:
    """How a run ended, with its colour."""
    return f'<span class="tag">{colour_dot(outcome)}{told(outcome_name(outcome))}</span>'


def outcome_of(trace: Trace) -> str:
    """As every page says it: `failure` where a run is wrong and of no known kind."""
    return "failure" if trace.outcome == "unknown" and trace.success is False else trace.outcome


def colour_dot(outcome: str) -> str:
    """The colour of an outcome as a dot."""
    return f'<i style="background:var(--{outcome if outcome in OUTCOME_ORDER else "unknown"})"></i>'


def figure(picture: str, caption: str, width: int) -> str:
    """A picture (HTML) of so many pixels across, with words below it."""
    return f'<figure style="width:{width}px">{picture}<figcaption>{caption}</figcaption></figure>'


def model_name(name: str) -> str:
    """A model as people know it, HTML: of a folder's whole path its last parts alone."""
    path = PurePath(name)
    return told("/".join(path.parts[-3:]) if path.is_absolute() else name, 60)


def joined(parts: Iterable[str]) -> str:
    """Parts of a line, those that are there, apart by dots."""
    return " · ".join(part for part in parts if part)
