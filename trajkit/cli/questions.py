"""Questions of a file, as commands work through them: one that cannot be used is set aside and told, and the others go
on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajkit.attribution.collect import Item
    from trajkit.errors import InputError
    from trajkit.traces.questions import Question
    from trajkit.vlm.model import VLM


class Questions:
    """The questions of QUESTIONS.jsonl that can be used, and how many cannot.

    images: the folder that names of images are in. images_root: the folder that holds every image that may be opened.
    Raises InputError where there is no such file or none of its lines can be used.
    """

    def __init__(self, path: Path, images: Path | None, images_root: Path | None = None) -> None:
        from trajkit.traces.questions import read_questions

        self._images_root = images_root
        self.left_out = 0
        """Lines, questions and images that could not be used, so far."""
        self._lines_left_out = 0
        self.asked = read_questions(path, images, self._set_aside_line)

    def __len__(self) -> int:
        return len(self.asked)

    def items(self, vlm: VLM) -> Iterator[Item]:
        """The items of the questions that `vlm` can be asked; images are opened when their turn comes."""
        from trajkit.errors import InputError

        for question in self.asked:
            try:
                yield self.item(question, vlm)
            except InputError as error:
                self.set_aside(question, error)

    def item(self, question: Question, vlm: VLM) -> Item:
        """The item of a question, its image opened. Raises InputError when the image cannot be used or is not within
        the images' root, or `vlm` cannot be asked this about it."""
        from trajkit.attribution.collect import Item
        from trajkit.traces.images import confined, open_image

        within = question.image if self._images_root is None else confined(question.image, self._images_root)
        image = open_image(within)
        vlm.prepare(image, question.question)
        return Item(
            question.id, image, question.question, question.group_id, question.target, question.task_set, question.facts
        )  # fmt: skip

    def set_aside(self, question: Question, error: InputError) -> None:
        """Say above a progress bar that a question is left out, and why; it is counted."""
        self._tell(f"{question.id} (line {question.line}, {question.image.name})", error)

    def set_aside_item(self, item: Item, error: InputError) -> None:
        """The same for an item of `items`."""
        self.set_aside(next(question for question in self.asked if question.id == item.id), error)

    def exit_if_left_out(self) -> None:
        """Leave with 1 when questions were left out."""
        if self.left_out:
            total = len(self.asked) + self._lines_left_out
            typer.echo(f"trajkit: {self.left_out} of {total} questions could not be used; see above.", err=True)
            raise typer.Exit(1)

    def _set_aside_line(self, number: int, error: InputError) -> None:
        self._lines_left_out += 1
        self._tell(f"of line {number}", error)

    def _tell(self, which: str, error: InputError) -> None:
        from trajkit.cli.output import note

        self.left_out += 1
        note(f"trajkit: left out question {which}: {error}")
