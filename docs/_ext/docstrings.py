"""Docstrings as they stand, on pages: their plain text is made reStructuredText, and names in it links.

`name` becomes code, or a link where it is a public name; a paragraph "See also: …" becomes a box; examples stay.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib import import_module
from typing import Any, ForwardRef

from sphinx.util.inspect import stringify_signature

ROOMS = ("detection", "judging", "stats", "trajectory", "plots", "tables")
_SPECIAL = re.compile(r"([\\*|_`])")


def setup(app: Any) -> dict[str, Any]:
    """Register what is done to docstrings and to names in signatures."""
    app.connect("autodoc-process-docstring", _rewrite)
    app.connect("autodoc-process-signature", _as_written)
    app.connect("missing-reference", _link_type)
    return {"parallel_read_safe": True}


@cache
def public() -> dict[str, str]:
    """name → where it is documented, as `trajkit.Monitor` or `trajkit.stats.auc`; both of the short and the long form.

    A class that a room has too is documented at the top. A name that two rooms have is known by its long form alone.
    """
    import trajkit

    where = {id(getattr(trajkit, name)): f"trajkit.{name}" for name in trajkit.__all__ if name not in ROOMS}
    long = {f"trajkit.{name}": f"trajkit.{name}" for name in trajkit.__all__}
    for room in ROOMS:
        module = import_module(f"trajkit.{room}")
        for name in getattr(module, "__all__", None) or dir(module):
            thing = getattr(module, name)
            long[f"trajkit.{room}.{name}"] = where.get(id(thing), f"trajkit.{room}.{name}")
    short: dict[str, set[str]] = {}
    for place in set(long.values()):
        short.setdefault(place.rpartition(".")[2], set()).add(place)
    return {name: places.pop() for name, places in short.items() if len(places) == 1} | long


def place_of(name: str) -> str | None:
    """Where a name that stands in a docstring is documented, `tk.stream`, `Monitor.start` and `stats.auc` too."""
    name = name.removesuffix("()").split("(")[0].removeprefix("tk.").removeprefix("trajkit.")
    known = public()
    if found := known.get(f"trajkit.{name}") or known.get(name):
        return found
    owner, dot, member = name.rpartition(".")
    place = (known.get(f"trajkit.{owner}") or known.get(owner)) if dot else None
    return f"{place}.{member}" if place and hasattr(_thing(place), member) else None


def _thing(place: str) -> Any:
    module, _, name = place.rpartition(".")
    return getattr(import_module(module), name)


def _rewrite(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    named = "|".join(map(re.escape, _parameters(obj)))
    told = re.compile(rf"(?:^|(?<=[.;] ))((?:{named})(?:, (?:{named}))*):(?= )") if named else None
    lines[:] = [*"\n\n".join(_paragraph(text, told) for text in paragraphs).splitlines(), ""]


def _parameters(obj: Any) -> list[str]:
    try:
        return [name for name in inspect.signature(obj).parameters if name not in ("self", "cls")]
    except (TypeError, ValueError):
        return []


def _paragraph(text: str, told: re.Pattern[str] | None) -> str:
    """told: finds the names of parameters that a sentence begins with, which are set in bold."""
    first = text.lstrip("\n")
    if first.startswith(">>>"):
        return first
    if first.startswith("    "):
        return "::\n\n" + first
    plain = " ".join(line.strip() for line in text.splitlines())
    if plain.startswith("See also:"):
        return ".. seealso:: " + _inline(plain.removeprefix("See also:").strip(), "obj")
    parts = told.split(plain) if told else [plain]
    return "".join(
        rf"\ **{part}**:\ " if i % 2 else _inline(part.removeprefix(":"), "attr") for i, part in enumerate(parts)
    )


def _inline(plain: str, role: str) -> str:
    """Text with its names as links or code; nothing else in it means anything.

    role: `obj`, a name that the site must have; `attr`, one that is code where the site does not show it.
    """
    parts = re.split(r"`([^`]+)`", plain)
    return "".join(_name(part, role) if i % 2 else _SPECIAL.sub(r"\\\1", part) for i, part in enumerate(parts))


def _name(text: str, role: str) -> str:
    place = place_of(text) or (text if role == "obj" else None)
    made = f":py:{role}:`{text} <{place}>`" if place else f"``{text}``"
    return rf"\ {made}\ "


def _as_written(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> Any:
    """A signature with its types as the source has them: what aliases stand for helps nobody."""
    if signature is None:
        return None
    found = inspect.signature(obj)
    parameters = [one.replace(annotation=_source(one.annotation)) for one in found.parameters.values()]
    if what == "method" and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    made = stringify_signature(found.replace(parameters=parameters), show_return_annotation=False)
    ends = _source(found.return_annotation)
    made = made.replace("<factory>", "...")  # of a field that is made anew
    return made, "" if what == "class" or ends is inspect.Signature.empty else str(ends)


def _source(annotation: Any) -> Any:
    return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation


def _link_type(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """A class that a signature names by its short name, or by its home, is linked to where it is documented."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "exc"):
        return None
    place = public().get(node["reftarget"].rpartition(".")[2])
    if place is None or place == node["reftarget"]:
        return None
    return env.domains["py"].resolve_xref(env, node.get("refdoc"), app.builder, "obj", place, node, contnode)
