"""The directive `trajkit-commands`: every command as its own help says it, a section each."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("trajkit-commands", Commands)
    return {"parallel_read_safe": True}


class Commands(Directive):
    """A section a command, by the panels of `trajkit --help`."""

    def run(self) -> list[nodes.Node]:
        import typer

        from trajkit.cli.main import app

        group = typer.main.get_command(app)
        return [self._section(name, command) for name, command in group.commands.items()]  # type: ignore[attr-defined]

    def _section(self, name: str, command: Any) -> nodes.section:
        section = nodes.section(ids=[f"trajkit-{name}"], names=[f"trajkit-{name}"])
        self.state.document.note_explicit_target(section)
        section += nodes.title(text=name)
        context = command.make_context(name, [], resilient_parsing=True)
        pieces = " ".join(piece.strip("{}") for piece in command.collect_usage_pieces(context))
        section += nodes.literal_block(text=f"trajkit {name} {pieces}", language="text")
        section += _prose(command.help)
        records = [(param, param.get_help_record(context)) for param in command.get_params(context)]
        section += _options([record for _, record in records if record and not record[0].startswith("-h")])
        section += _prose(command.epilog or "")
        return section


def _prose(text: str) -> list[nodes.Node]:
    """Paragraphs of a help text; indented ones are examples, a word alone in bold is the heading of what follows."""
    made: list[nodes.Node] = []
    for part in re.split(r"\n\s*\n", text):
        if not part.strip():
            continue
        if part.startswith("  "):
            lines = "\n".join(line.removeprefix("  ") for line in part.splitlines())
            if made and isinstance(made[-1], nodes.literal_block):
                made[-1] = nodes.literal_block(text=f"{made[-1].astext()}\n{lines}", language="text")
            else:
                made.append(nodes.literal_block(text=lines, language="text"))
            continue
        made.append(_marked(part))
    return made


def _marked(part: str) -> nodes.paragraph:
    paragraph = nodes.paragraph()
    for i, piece in enumerate(re.split(r"\[bold\](.*?)\[/bold\]", part)):
        for j, text in enumerate(re.split(r"`([^`]+)`", piece)):
            if text and j % 2:
                paragraph += nodes.literal(text=text)
            elif text:
                paragraph += nodes.strong(text=text) if i % 2 else nodes.Text(text)
    return paragraph


def _options(records: list[tuple[str, str]]) -> nodes.definition_list:
    listed = nodes.definition_list(classes=["options"])
    for said, help_text in records:
        term = nodes.term("", "", nodes.literal(text=said))
        text, _, facts = help_text.partition("  [")
        meaning = _marked(text)
        if facts:
            meaning += nodes.Text(" ")
            meaning += nodes.inline(text=_facts(facts.removesuffix("]")), classes=["facts"])
        listed += nodes.definition_list_item("", term, nodes.definition("", meaning))
    return listed


def _facts(text: str) -> str:
    """`default: (as many as cores); 1<=x<=4096` in words."""
    text = re.sub(r"default: \((.*?)\)", r"default: \1", text)
    return "(" + re.sub(r"([-\d.]+)<=x<=([-\d.]+)", r"\1 to \2", text).replace("x>=", "at least ") + ")"
