"""Questions of a file, as commands work through them: one whose image cannot be used is left out and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajkit.attribution.collect import Item
    from trajkit.errors import InputError
    from trajkit.traces.questions import Question


class Items:
    """The items of questions, to be iterated once; images are opened when their turn comes."""

    def __init__(self, asked: list[Question]) -> None:
        self._asked = asked
        self.left_out = 0
        """Questions whose image could not be used, so far."""

    def __iter__(self) -> Iterator[Item]:
        from trajkit.attribution.collect import Item
        from trajkit.errors import InputError
        from trajkit.traces.images import open_image

        for q in self._asked:
            try:
                image = open_image(q.image)
            except InputError as error:
                self.left_out += 1
                tell_left_out(q, error)
                continue
            yield Item(q.id, image, q.question, q.group_id, q.target, q.task_set, q.facts)


def tell_left_out(question: Question, error: InputError) -> None:
    """Say above a progress bar that a question is left out, and why."""
    from trajkit.cli.output import note

    note(f"trajkit: left out question {question.id} (line {question.line}, {question.image.name}): {error}")


def exit_if_left_out(left_out: int, asked: list[Question]) -> None:
    """Leave with 1 when questions were left out."""
    if left_out:
        typer.echo(f"trajkit: {left_out} of {len(asked)} questions could not be used; see above.", err=True)
        raise typer.Exit(1)
