"""The prompt of a run from the turns of a chat, in whichever form a log has them: inspect's, OpenAI's, or that of data
sets with `messages`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trajkit.traces.importers.reading import as_dict, as_list, as_text

_TEXTS = ("text", "input_text", "output_text")
_IMAGES = ("image", "image_url", "input_image")
_REASONING = ("reasoning", "reasoning_content", "thinking")


@dataclass(frozen=True)
class Prompt:
    """question: what the last user turn asks. images: as the log names them, in order, those that it names only as
    `{"type": "image"}` as "". messages: all turns, where they are more than one user turn of images and one text."""

    question: str
    system: str | None
    images: tuple[str, ...]
    messages: list[dict[str, Any]] | None


def prompt_of(turns: Iterable[Any]) -> Prompt:
    """The prompt of turns `{"role": …, "content": …}`; what is none is left out."""
    kept: list[dict[str, Any]] = []
    images: list[str] = []
    for turn in turns:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            continue
        content, named = _content(turn.get("content"))
        images += named
        thinking = next((turn[key] for key in _REASONING if isinstance(turn.get(key), str) and turn[key]), None)
        kept.append({"role": turn["role"], "content": content} | ({"reasoning_content": thinking} if thinking else {}))
    system = next((_texts(turn) for turn in kept[:1] if turn["role"] in ("system", "developer")), None)
    asked = kept if system is None else kept[1:]
    last: dict[str, Any] = next((turn for turn in reversed(asked) if turn["role"] == "user"), {"content": []})
    alone = len(asked) == 1 and _is_question(asked[0]["content"])
    return Prompt(_texts(last), system, tuple(images), None if alone or not asked else kept)


def _content(content: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Texts and images of a turn, and how the images are named. Parts of other kinds are named by their kind."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}], []
    parts: list[dict[str, Any]] = []
    images: list[str] = []
    for part in as_list(content):
        kind = as_dict(part).get("type")
        if isinstance(part, str) or kind in _TEXTS:
            parts.append({"type": "text", "text": part if isinstance(part, str) else as_text(part.get("text")) or ""})
        elif kind in _IMAGES:
            parts.append({"type": "image"})
            images.append(_named(part))
        elif kind not in (None, "reasoning", "thinking"):
            parts.append({"type": str(kind)})
    return parts, images


def _named(part: Mapping[str, Any]) -> str:
    """The URI or path of an image."""
    found = next((part[key] for key in ("image", "image_url", "url", "path") if part.get(key) is not None), "")
    found = found.get("url") if isinstance(found, Mapping) else found
    return found if isinstance(found, str) else ""


def _texts(turn: Mapping[str, Any]) -> str:
    return "\n".join(part["text"] for part in turn["content"] if part["type"] == "text")


def _is_question(content: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are images, then one text."""
    return [part["type"] for part in content[-1:]] == ["text"] and all(part["type"] == "image" for part in content[:-1])
