"""The options that say what is done when the monitor speaks, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import one_of
from trajkit.errors import InputError

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
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


EnoughOption = Annotated[
    bool, typer.Option("--enough", help="End the thinking, and answer, once success is as good as certain.")
]


@dataclass(frozen=True)
class Asked:
    """What the options say, which are None or False where they were left out."""

    policy: str | None = None
    tries: int | None = None
    start: str | None = None
    hint: str | None = None
    enough: bool = False

    def check(self) -> None:
        """Raises UsageError on a name that is none, and on a setting of ask-again without it."""
        from trajkit.cli.output import UsageError

        one_of("--policy", self.policy or "flag", _ON_ALARM)
        one_of("--from", self.start or "anew", _FROM)
        if self.policy != "ask-again" and (self.tries, self.start, self.hint) != (None, None, None):
            raise UsageError("--tries, --from and --hint are about --policy ask-again; give it too.")

    def policy_with(self, monitor: Monitor | None, enough: Monitor | None) -> Policy | None:
        """The policy asked for; None for none. monitor, enough: the detectors', of failure and of success.

        Raises UsageError as `check`, InputError where there is no monitor that could call for what is asked.
        """
        from trajkit.detection.policies import Policy

        self.check()
        if self.policy is None and not self.enough:
            return None
        if monitor is None and self.policy not in (None, "flag"):
            raise InputError(f"--policy {self.policy} needs a monitor; name detectors with --detectors.")
        if self.enough and enough is None:
            raise InputError("--enough needs detectors with a monitor of success; name some, or fit them again.")
        return Policy(
            on_alarm=(self.policy or "flag").replace("-", " "),  # type: ignore[arg-type]
            tries=self.tries or 1,
            start=(self.start or "anew").replace("-", " "),  # type: ignore[arg-type]
            hint=self.hint or "",
            enough=enough if self.enough else None,
        )
