"""What a client asks for: the body of `/v1/chat/completions`, checked before anything runs."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from trajkit.detection.policies import OnAlarm
from trajkit.errors import InputError
from trajkit.strict_json import parse_json
from trajkit.traces.images import MAX_PIXELS, open_image
from trajkit.vlm.generation import Sampling
from trajkit.vlm.messages import Chat

if TYPE_CHECKING:
    from PIL import Image

Effects = Literal["top", "all", "none"]
_IDLE: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "min_p": 0,
    "logit_bias": {},
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "use_beam_search": False,
}
"""Fields that would change the answer and are not served, and the value with which they ask for nothing."""
_TAKEN = {
    "messages", "model", "stream", "stream_options", "temperature", "top_p", "top_k", "seed", "stop", "max_tokens",
    "max_completion_tokens", "trajkit", "user", "metadata", "store", "service_tier", "safety_identifier",
    "prompt_cache_key", "return_token_ids", "parallel_tool_calls", "chat_template_kwargs", "logprobs", "top_logprobs",
}  # fmt: skip
_OF_A_TURN = ("role", "content", "reasoning", "reasoning_content")
_MOST_VALUES = 1_000_000
"""Commas of a body: to read more would hold up all else for too long."""
_OWN = {"policy", "tries", "from", "hint", "alpha", "effects"}


@dataclass(frozen=True)
class Wish:
    """The `trajkit` object of a request. policy: what an alarm does; None for the server's own. alpha: None for the
    monitor's own. effects: of each step the strongest, all, or none."""

    policy: OnAlarm | None = None
    tries: int | None = None
    start: str | None = None
    hint: str | None = None
    alpha: float | None = None
    effects: Effects = "top"


@dataclass(frozen=True)
class ChatRequest:
    """One request. model: as the client called it. include_usage: whether a last chunk counts tokens. logprobs,
    token_ids: whether those of the answer are asked for. body: as it came, but for the key `trajkit`."""

    chat: Chat
    messages: list[dict[str, Any]]
    model: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    token_ids: bool = False
    wish: Wish = field(default_factory=Wish)
    body: dict[str, Any] = field(default_factory=dict)


def parse_request(body: bytes) -> ChatRequest:
    """The request that a body holds.

    Raises InputError, which names the field, where it is no JSON object, a field is of a wrong kind or asks for what is
    not served, and as `Chat.of` and `Sampling`.
    """
    asked = _parsed(body)
    given = {name: value for name, value in asked.items() if value is not None}
    _check_served(given)
    messages = _opened(given.get("messages"))
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    sampling = Sampling(
        temperature=given.get("temperature"),
        max_new_tokens=limit,
        seed=given.get("seed"),
        top_p=given.get("top_p"),
        top_k=0 if given.get("top_k") == -1 else given.get("top_k"),  # vLLM's -1 is for all
        stop_strings=given.get("stop"),
    )
    options = given.get("stream_options", {})
    return ChatRequest(
        chat=Chat.of(messages),
        messages=messages,
        model=_of_kind(given, "model", str, "text"),
        sampling=sampling,
        stream=bool(_of_kind(given, "stream", bool, "true or false")),
        include_usage=isinstance(options, Mapping) and bool(options.get("include_usage")),
        logprobs=bool(_of_kind(given, "logprobs", bool, "true or false") or given.get("top_logprobs")),
        token_ids=bool(_of_kind(given, "return_token_ids", bool, "true or false")),
        wish=_wish(given.get("trajkit", {})),
        body={name: value for name, value in given.items() if name != "trajkit"},
    )


def _parsed(body: bytes) -> dict[str, Any]:
    if body.count(b",") > _MOST_VALUES:
        raise InputError(f"the body must be a JSON object of at most {_MOST_VALUES:,} values.")
    try:
        asked = parse_json(body.decode())
        if b"\\u" in body:
            json.dumps(asked, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError("the body has half of a surrogate pair in a text; take it out.") from error
    except ValueError as error:
        raise InputError(f"the body must be a JSON object; it cannot be read ({error}).") from error
    if not isinstance(asked, dict):
        raise InputError(f"the body must be a JSON object; got {type(asked).__name__}.")
    return asked


def _check_served(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _TAKEN:
            continue
        if name not in _IDLE:
            raise InputError(f"{name} is not known here; take it out of the request.")
        if value not in (_IDLE[name], [], {}, ""):
            raise InputError(f"{name} = {value!r} is not served: runs are attributed as one sequence. Leave it out.")


def _of_kind(given: Mapping[str, Any], name: str, kind: type, expected: str) -> Any:
    value = given.get(name)
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{name} must be {expected}; got {value!r}.")
    return value


def _wish(own: Any) -> Wish:
    if not isinstance(own, Mapping):
        raise InputError(f"trajkit must be an object; got {type(own).__name__}.")
    own = {name: value for name, value in own.items() if value is not None}
    if unknown := sorted(set(own) - _OWN):
        raise InputError(f"trajkit takes {', '.join(sorted(_OWN))}; got {', '.join(map(repr, unknown))}.")
    policy = str(own["policy"]).replace("-", " ") if "policy" in own else None
    effects = own.get("effects", "top")
    for name, value, kind in (("policy", policy, OnAlarm), ("effects", effects, Effects)):
        if value is not None and value not in get_args(kind):
            raise InputError(f"trajkit.{name} must be one of {', '.join(get_args(kind))}; got {value!r}.")
    alpha = own.get("alpha")
    if alpha is not None and not (isinstance(alpha, float) and 0 < alpha < 1):
        raise InputError(f"trajkit.alpha must be a share between 0 and 1; got {alpha!r}.")
    start = str(own["from"]).replace("-", " ") if "from" in own else None
    hint = _of_kind(own, "hint", str, "a text")
    return Wish(policy, own.get("tries"), start, hint, alpha, effects)  # type: ignore[arg-type]


def _opened(messages: Any) -> list[dict[str, Any]]:
    """Messages with their images opened: of OpenAI's `image_url` as a data URL, which alone is taken."""
    if not isinstance(messages, list):
        raise InputError(f"messages must be a list of turns; got {type(messages).__name__}.")
    room = _Room()
    return [_opened_turn(turn, number, room) for number, turn in enumerate(messages, 1)]


@dataclass
class _Room:
    """Pixels that further images of a request may have."""

    pixels: int = MAX_PIXELS

    def take(self, image: Image.Image, called: str) -> Image.Image:
        self.pixels -= image.width * image.height
        if self.pixels < 0:
            raise InputError(
                f"{called}: the images of one request may have {MAX_PIXELS / 1e6:.0f} million pixels together; send "
                "fewer, or smaller ones."
            )
        return image


def _opened_turn(turn: Any, number: int, room: _Room) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise InputError(f"turn {number} must be an object with a role and content; got {type(turn).__name__}.")
    taken = {name: value for name, value in turn.items() if name in _OF_A_TURN}
    if taken.get("role") == "developer":
        taken["role"] = "system"
    content = taken.get("content")
    if isinstance(content, list):
        taken["content"] = [_opened_part(part, f"turn {number}, part {at}", room) for at, part in enumerate(content, 1)]
    return taken


def _opened_part(part: Any, called: str, room: _Room) -> Any:
    if not isinstance(part, Mapping) or part.get("type") not in ("image_url", "image", "input_image"):
        return part
    url = part.get("image_url", part.get("image"))
    url = url.get("url") if isinstance(url, Mapping) else url
    if not isinstance(url, str) or not url.startswith("data:image/") or ";base64," not in url:
        shown = url[:60] if isinstance(url, str) else type(url).__name__
        raise InputError(
            f"{called}: an image must be a data URL, data:image/png;base64,…, as nothing is fetched; got {shown}."
        )
    try:
        data = base64.b64decode(url.split(";base64,", 1)[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{called}: the image's base64 is damaged ({error}).") from error
    return {"type": "image", "image": room.take(open_image(data), called)}
