"""Questions of a file, as commands work through them: one that cannot be used is set aside and told, and the others go
on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trajkit.attribution.item import Item
    from trajkit.errors import InputError
    from trajkit.traces.questions import Question


class Questions:
    """The questions of QUESTIONS.jsonl that can be used, and how many cannot.

    images: the folder that names of images are in. images_root: the folder that holds every image that may be opened.
    Raises InputError where there is no such file or none of its lines can be used.
    """

    def __init__(self, path: Path, images: Path | None, images_root: Path | None = None) -> None:
        from trajkit.traces.questions import read_questions

        self._images_root = images_root
        self._left_out: set[int] = set()
        self._bad_lines = 0
        self.asked = read_questions(path, images, self._set_aside_line)
        self._of_id = {question.id: question for question in self.asked}

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def left_out(self) -> int:
        """Lines, questions and images that could not be used, so far."""
        return len(self._left_out)

    def items(self, advance: Callable[[str], None] = lambda note: None) -> Iterator[Item]:
        """The items of the questions whose images can be opened, each when its turn comes. advance: called for each of
        the others."""
        from trajkit.aside import aside

        for question in self.asked:
            item = None
            with aside(question, self.set_aside):
                item = self.item(question)
            if item is None:
                advance(question.image.name)
            else:
                yield item

    def item(self, question: Question) -> Item:
        """The item of a question, its image opened. Raises InputError when the image cannot be used or is not within
        the images' root."""
        from trajkit.attribution.item import Item
        from trajkit.traces.images import confined, open_image

        within = question.image if self._images_root is None else confined(question.image, self._images_root)
        return Item(
            question.id,
            open_image(within),
            question.question,
            question.group_id,
            question.target,
            question.task_set,
            question.facts,
            question.targets,
            question.outcome,
        )

    def set_aside(self, question: Question, error: InputError) -> None:
        """Say above a progress bar that a question, or a run of it, is left out, and why; it is counted once."""
        self._tell(f"{question.id} (line {question.line}, {question.image.name})", question.line, error)

    def set_aside_item(self, item: Item, error: InputError) -> None:
        """The same for an item of `items`."""
        self.set_aside(self._of_id[item.id], error)

    def exit_if_left_out(self) -> None:
        """Leave with 1 when questions were left out."""
        from trajkit.tables.words import count

        if self.left_out:
            total = len(self.asked) + self._bad_lines
            line = f"trajkit: {self.left_out:,} of {count(total, 'question')} could not be used; see above."
            typer.echo(line, err=True)
            raise typer.Exit(1)

    def _set_aside_line(self, number: int, error: InputError) -> None:
        self._bad_lines += 1
        self._tell(f"of line {number}", number, error)

    def _tell(self, which: str, line: int, error: InputError) -> None:
        from trajkit.cli.output import note

        self._left_out.add(line)
        note(f"trajkit: left out question {which}: {error}")
