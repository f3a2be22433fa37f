"""The options that say what is done when the monitor speaks, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import one_of
from trajkit.errors import InputError

if TYPE_CHECKING:
    from trajkit.detection.policies import Policy

EXIT_STOPPED = 3
"""A policy said stop."""
_ON_ALARM = ("flag", "stop", "answer-now", "ask-again")
_FROM = ("anew", "last-good-step")

PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="|".join(_ON_ALARM),
        help="What an alarm does: be told, end the run, close the thinking and answer, or have another try.",
    ),
]
TriesOption = Annotated[
    int | None,
    typer.Option(
        "--tries", metavar="N", min=1, max=1000, show_default="1", help="Of ask-again: further tries, at most."
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="|".join(_FROM),
        show_default="anew",
        help="Of ask-again: begin anew, or go on from the last good step.",
    ),
]
HintOption = Annotated[
    str | None,
    typer.Option("--hint", metavar="TEXT", help="Of ask-again: words put into the thinking before it goes on."),
]


def policy_of(policy: str, tries: int | None = None, start: str | None = None, hint: str | None = None) -> Policy:
    """What --policy, --tries, --from and --hint say. Raises InputError on a name that is none, and on a setting of
    ask-again without it."""
    from trajkit.detection.policies import Policy

    name = one_of("--policy", policy, _ON_ALARM)
    if name != "ask-again" and (tries, start, hint) != (None, None, None):
        raise InputError("--tries, --from and --hint are about --policy ask-again; give it too.")
    begin = one_of("--from", start or "anew", _FROM)
    return Policy(
        on_alarm=name.replace("-", " "),  # type: ignore[arg-type]
        tries=tries or 1,
        start=begin.replace("-", " "),  # type: ignore[arg-type]
        hint=hint or "",
    )
