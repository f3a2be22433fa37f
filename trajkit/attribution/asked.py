"""What a saved run was asked, as a prompt again: its images, its conversation, its system prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from trajkit.errors import InputError
from trajkit.traces.images import open_image
from trajkit.traces.trace import Trace
from trajkit.vlm.model import VLM, Prompt


def prompt_of(vlm: VLM, trace: Trace) -> Prompt:
    """The prompt of a saved run: of `meta["messages"]` where there was a conversation, else of its question.

    A system prompt that the run tells goes before the model's own. Raises InputError where the run has no image or one
    that cannot be used, and as `VLM.prompt`.
    """
    images = images_of(trace)
    system, turns = trace.meta.get("system"), trace.meta.get("messages")
    if not turns and (not system or system == vlm.system):
        return vlm.prepare(images, trace.question)
    if not turns:
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": trace.question}]
        turns = [{"role": "user", "content": content}]
    return vlm.prepare_chat(_conversation(turns, system), images)


def images_of(trace: Trace) -> list[Image.Image]:
    """The images of a run, in order, cut out of its one picture where they are several (`meta["image_sizes"]`)."""
    if trace.image is None:
        raise InputError("it has no image, which effects are about; import it with --images or --questions.")
    picture, sizes = open_image(trace.image), trace.meta.get("image_sizes")
    if sizes is None:
        return [picture]
    images, left = [], 0
    for width, height in _checked_sizes(sizes, picture):
        images.append(picture.crop((left, 0, left + width, height)))
        left += width
    return images


def _checked_sizes(sizes: Any, picture: Image.Image) -> list[tuple[int, int]]:
    """Raises InputError unless these are [[width, height], …] of images that stand side by side in the picture."""
    try:
        found = [(int(width), int(height)) for width, height in sizes]
    except (TypeError, ValueError):
        found = []
    least = min((min(size) for size in found), default=0)
    whole = (sum(width for width, _ in found), max((height for _, height in found), default=0))
    if least < 1 or whole != picture.size:
        raise InputError(
            f"its image_sizes must be [[width, height], …] of images that make up one of {picture.width} × "
            f"{picture.height}; got {str(sizes)[:80]}. Import it again."
        )
    return found


def _conversation(turns: Any, system: Any) -> list[Any]:
    """Turns as `Chat.of` takes them, images without their numbers, behind the run's system prompt."""
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise InputError("its messages must be a list of turns, each with a role and content. Import it again.")
    said = [{**turn, "content": _content(turn.get("content"))} for turn in turns]
    if said and said[0].get("role") in ("system", "developer"):
        said[0]["role"] = "system"
    elif system:
        said.insert(0, {"role": "system", "content": system})
    return said


def _content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [
        {"type": "image"} if isinstance(part, Mapping) and part.get("type") == "image" else part for part in content
    ]
