"""A chat in a file, for `trajkit stream --messages`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.files import read_plain
from trajkit.strict_json import parse_json

MOST_BYTES = 16 << 20
"""Of the file, without its images."""


def read_messages(path: Path) -> list[Any]:
    """The turns of a JSON file, with its images opened: `{"type": "image", "image": "cat.png"}` names one, from the
    folder of the file. What turns may hold is for `vlm.messages.Chat` to say.

    Raises InputError where the file cannot be read or holds no list, or an image cannot be opened.
    """
    try:
        turns = parse_json(read_plain(path, MOST_BYTES).decode())
    except OSError as error:
        what = error.strerror or error
        raise InputError(f"{path} cannot be read ({what}); give --messages a JSON file of turns.") from error
    except ValueError as error:
        raise InputError(
            f"{path} holds no JSON: {error}. Write a list of turns, each with a role and content."
        ) from error
    if not isinstance(turns, list):
        raise InputError(f"{path} must hold a list of turns, each with a role and content.")
    return [_opened(turn, path.parent) for turn in turns]


def _opened(turn: Any, folder: Path) -> Any:
    content = turn.get("content") if isinstance(turn, dict) else None
    if not isinstance(content, list):
        return turn
    return turn | {"content": [_part(part, folder) for part in content]}


def _part(part: Any, folder: Path) -> Any:
    from trajkit.traces.images import open_image

    if isinstance(part, dict) and part.get("type") == "image_url":
        raise InputError(
            'an image of a chat is named as {"type": "image", "image": "PATH"}, by a file and from the folder of the '
            "chat's; got an image_url, and nothing is fetched."
        )
    if not isinstance(part, dict) or part.get("type") != "image" or not isinstance(part.get("image"), str):
        return part
    return part | {"image": open_image(folder / part["image"])}
