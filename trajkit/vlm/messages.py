"""A chat: turns of user and assistant, with their images, as prompts are made from them.

The usual form of messages is taken: `[{"role": "user", "content": [{"type": "image", "image": picture}, {"type":
"text", "text": "..."}]}, {"role": "assistant", "content": "..."}, ...]`. Nothing is fetched: images are open pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from PIL import Image

from trajkit.errors import InputError
from trajkit.text import LINES, require_plain
from trajkit.vlm.canvas import MAX_ASPECT, Images, opened, opened_all

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""Turns as transformers and most servers write them."""
Role = Literal["system", "user", "assistant"]
_THINKING = ("reasoning_content", "reasoning")
"""What servers call the thinking of an earlier answer."""


@dataclass(frozen=True, eq=False)
class Turn:
    """What one side said. parts: texts and images (RGB) in their order. thinking: an assistant's before it."""

    role: Role
    parts: tuple[str | Image.Image, ...]
    thinking: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image.Image))

    def for_template(self) -> dict[str, Any]:
        """As chat templates take it: an assistant's content is one text, any other's a list."""
        if self.role == "assistant":
            thinking = {"reasoning_content": self.thinking} if self.thinking else {}
            return {"role": self.role, "content": "".join(self.texts)} | thinking
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
            for part in self.parts
        ]
        return {"role": self.role, "content": content}


@dataclass(frozen=True, eq=False)
class Chat:
    """Turns, the last of them the user's, about at least one image."""

    turns: tuple[Turn, ...]

    @classmethod
    def about(cls, images: Images, question: str) -> Chat:
        """One question about one or several images.

        Raises InputError when the question is empty or not plain text, there is no image, or one is too narrow.
        """
        if not question.strip():
            raise InputError("the question is empty; ask something about the image.")
        given = opened_all(images, MAX_ASPECT)
        if not given:
            raise InputError("there is no image to ask about; give one, or several in a list.")
        require_plain(question, "the question", LINES)
        return cls((Turn("user", (*given, question)),))

    @classmethod
    def of(cls, messages: Messages, images: Images | None = None) -> Chat:
        """From messages. images: those of parts that say `{"type": "image"}` and hold none, in order.

        Raises InputError, which names the turn, for an unknown role, key or part (video, sound, tools, an address or
        path in place of an image), an image that is too narrow or in a turn that is not the user's, a system prompt
        that is not first, and text that is not plain; and where the last turn is not the user's or asks nothing, or
        there is no image.
        """
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
            found = "an empty one" if isinstance(messages, list) else type(messages).__name__
            raise InputError(f"messages must be a list of turns, each with a role and content; got {found}.")
        apart = iter(() if images is None else opened_all(images, MAX_ASPECT))
        chat = cls(tuple(_turn(message, f"turn {number}", apart) for number, message in enumerate(messages, 1)))
        if next(apart, None) is not None:
            raise InputError("there are more images than parts of the messages that stand for one; leave them out.")
        if any(turn.role == "system" for turn in chat.turns[1:]):
            raise InputError("a system prompt must be the first turn; move it there.")
        last = chat.turns[-1]
        if last.role != "user":
            raise InputError(f"the last turn must be the user's, which is then answered; got the {last.role}'s.")
        if not chat.question.strip():
            raise InputError("the last turn asks nothing; write in it what is asked about the images.")
        if not chat.images:
            raise InputError("there is no image in the messages to ask about; put one into a turn of the user.")
        return chat

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """Those of all turns, in order."""
        return tuple(image for turn in self.turns for image in turn.images)

    @property
    def texts(self) -> tuple[str, ...]:
        """All that was written, the thinking included."""
        return tuple(text for turn in self.turns for text in (turn.thinking, *turn.texts))

    @property
    def question(self) -> str:
        """What the last turn asks."""
        return "\n".join(self.turns[-1].texts)

    @property
    def is_question(self) -> bool:
        """Whether it is images and a question and no more, as by `about`."""
        parts = self.turns[0].parts
        return len(self.turns) == 1 and len(self.turns[0].texts) == 1 and isinstance(parts[-1], str)

    def for_template(self, system: str | None) -> list[dict[str, Any]]:
        """As chat templates take it. system: a system prompt, for a chat that has none."""
        turns = self.turns
        if system and turns[0].role != "system":
            turns = (Turn("system", (system,)), *turns)
        return [turn.for_template() for turn in turns]

    def to_record(self) -> list[dict[str, Any]]:
        """JSON-ready: who said what, each image by its number, 0 being the first."""
        numbers, record = iter(range(len(self.images))), []
        for turn in self.turns:
            content = [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": next(numbers)}
                for part in turn.parts
            ]
            thinking = {"reasoning_content": turn.thinking} if turn.thinking else {}
            record.append({"role": turn.role, "content": content} | thinking)
        return record


def _turn(message: Any, called: str, apart: Iterator[Any]) -> Turn:
    if not isinstance(message, Mapping):
        raise InputError(f"{called} must be a mapping with a role and content; got {type(message).__name__}.")
    said = {key: value for key, value in message.items() if value is not None}
    role = said.pop("role", None)
    if role not in get_args(Role):
        raise InputError(f"{called}: role must be one of {', '.join(get_args(Role))}; got {role!r}.")
    content, thinking = said.pop("content", ""), ""
    for key in _THINKING if role == "assistant" else ():
        thinking = _text(said.pop(key, "") or thinking, f"{called}: {key}")
    if said:
        raise InputError(f"{called}: a turn has a role and content; take out {', '.join(map(repr, said))}.")
    if isinstance(content, str):
        parts: tuple[str | Image.Image, ...] = (_text(content, called),)
    elif isinstance(content, Sequence):
        parts = tuple(_part(part, role, f"{called}, part {number}", apart) for number, part in enumerate(content, 1))
    else:
        raise InputError(f"{called}: content must be text or a list of parts; got {type(content).__name__}.")
    if not any(part.strip() if isinstance(part, str) else part for part in parts):
        raise InputError(f"{called} is empty; take it out.")
    return Turn(role, parts, thinking)


def _part(part: Any, role: Role, called: str, apart: Iterator[Any]) -> str | Image.Image:
    if isinstance(part, str):
        return _text(part, called)
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return _text(part.get("text"), called)
    if kind not in ("image", "image_url"):
        raise InputError(f"{called} must be of type text or image (video is not supported); got {kind or part!r}.")
    image = part.get("image", next(apart, None) if set(part) == {"type"} else None)
    if image is None or isinstance(image, str):
        raise InputError(f"{called}: nothing is fetched. Open the image with PIL.Image.open and give it as 'image'.")
    if role != "user":
        raise InputError(f"{called}: an image stands in a turn of the user; this one is the {role}'s.")
    return opened(image, MAX_ASPECT)


def _text(text: Any, called: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{called} must hold text; got {type(text).__name__}.")
    return require_plain(text, called, LINES)
