"""Another server of OpenAI's API, asked for answers in chunks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from trajkit.errors import InputError, TrajkitError

_LONGEST_LINE = 2**22
_LONGEST_LIST = 2**22
_TOLD = 500
"""Bytes of another server's words about an error."""
_LATER = (408, 409, 425, 429)
"""Statuses of requests that are fine and come at the wrong time."""
_NO_ENTRY = (401, 402, 403, 404)
_TOLD_OF_A_MODEL = ("owned_by", "root", "max_model_len")


class UpstreamError(TrajkitError):
    """The other server failed, stalled, or sent what cannot be read. after: seconds that it asks to be left alone
    for."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class RefusedError(InputError):
    """The other server does not take the request."""


class NoEntryError(RefusedError):
    """It takes none of these requests: the key, the model's name or the address is wrong."""


@dataclass(eq=False)
class OtherServer:
    """url: …/v1. key: its API key. stall: seconds without a byte after which it counts as dead. Used in one event
    loop."""

    url: str
    key: str | None = None
    stall: float = 60.0
    without: int = 0
    """How many of the fields that are asked for besides it is known to refuse."""

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(10, read=self.stall, pool=None)
        return httpx.AsyncClient(timeout=timeout, limits=httpx.Limits(max_connections=None), headers=_headers(self.key))

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    async def chunks(
        self, body: Mapping[str, Any], besides: Sequence[Mapping[str, Any]]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Chunks of the answer to a request. besides: fields that are asked for in addition; a server that refuses the
        request is asked without the first of them, then without the first two, and so on, and so are all after it.

        Raises RefusedError where it takes none of these, UpstreamError for anything else that goes wrong, which may be
        another time.
        """
        without = self.without
        while True:
            asked = dict(body)
            for fields in besides[without:]:
                asked |= fields
            try:
                async for chunk in self._answer(asked):
                    self.without = without
                    yield chunk
                return
            except NoEntryError:
                raise
            except RefusedError:
                without += 1
                if without > len(besides):
                    raise

    async def _answer(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self._client.stream("POST", f"{self.url}/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    raise await self._refusal(answer)
                async for line in self._lines(answer):
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    yield self._object(data)
        except httpx.TimeoutException as error:
            raise UpstreamError(f"{self.url} has sent nothing for {self.stall:g} s.") from error
        except httpx.HTTPError as error:
            raise UpstreamError(f"{self.url} cannot be read: {error or type(error).__name__}.") from error

    async def _refusal(self, answer: httpx.Response) -> Exception:
        """What an answer that is none says."""
        status, after = answer.status_code, answer.headers.get("Retry-After", "")
        what = f"{self.url} answers {status}: {await _beginning(answer)}"
        if status in _NO_ENTRY:
            return NoEntryError(what)
        if 400 <= status < 500 and status not in _LATER:
            return RefusedError(what)
        return UpstreamError(what, float(after) if after.isascii() and after.isdigit() else 0.0)

    async def _lines(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Lines as the protocol has them: a model's text may hold what Python takes for the end of one."""
        held = b""
        async for part in answer.aiter_bytes():
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                yield line
            if len(held) > _LONGEST_LINE:
                raise UpstreamError(f"{self.url} sends a line of more than {_LONGEST_LINE >> 20} MB.")
        yield held

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            shown = data[:80].decode(errors="replace")
            raise UpstreamError(f"{self.url} sends what is no chunk of an answer: {shown!r}.")
        if "error" in chunk:
            raise UpstreamError(f"{self.url} says: {str(chunk['error'])[:300]}")
        return chunk


async def _beginning(answer: httpx.Response) -> str:
    """Of what says why there is no answer, which may go on without end."""
    said = b""
    async for part in answer.aiter_bytes(_TOLD):
        said += part
        if len(said) >= _TOLD:
            break
    return said[:_TOLD].decode(errors="replace")


def said_in(choice: Mapping[str, Any]) -> tuple[str, str]:
    """What a choice of a chunk adds to the thinking and to the answer."""
    delta = choice.get("delta") or {}
    return delta.get("reasoning") or delta.get("reasoning_content") or "", delta.get("content") or ""


def count(usage: Mapping[str, Any], name: str) -> int | None:
    """A number of tokens that a server tells, if it does."""
    found = usage.get(name)
    return found if isinstance(found, int) else None


def find_model(url: str, key: str | None, asked: str | None = None) -> str:
    """The model that a server has, or the one of its models that is asked for. Raises UpstreamError."""
    return str(described(url, key, asked)["model"])


def described(url: str, key: str | None, asked: str | None = None) -> dict[str, Any]:
    """What a server says of the model that it has, or of the one that is asked for, JSON-ready: `model`, its name, and
    where they are told `owned_by`, `root`, `max_model_len`, and the server's `version`. Raises UpstreamError."""
    try:
        models = {str(one["id"]): one for one in _listed(f"{url}/models", key)["data"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UpstreamError(f"{url}/models gives no list of models ({error}); is the server up?") from error
    if asked is not None and asked not in models:
        raise UpstreamError(f"{url} has no model {asked!r}, but {', '.join(models)}.")
    if asked is None and len(models) != 1:
        raise UpstreamError(f"{url} has {len(models)} models ({', '.join(models)}); say which one.")
    name = asked or next(iter(models))
    try:
        version = _listed(f"{url.removesuffix('/v1')}/version", key)
    except (httpx.HTTPError, ValueError, RecursionError):
        version = {}
    told = {"model": name, **{of: models[name].get(of) for of in _TOLD_OF_A_MODEL}, "version": version.get("version")}
    return {of: value for of, value in told.items() if isinstance(value, str | int) and len(str(value)) <= _TOLD}


def _listed(url: str, key: str | None) -> dict[str, Any]:
    """A JSON object that a server gives at an address. Raises httpx.HTTPError, and ValueError for anything else."""
    with httpx.stream("GET", url, headers=_headers(key), timeout=10) as answer:
        answer.raise_for_status()
        data = b""
        for part in answer.iter_bytes():
            data += part
            if len(data) > _LONGEST_LIST:
                raise ValueError(f"more than {_LONGEST_LIST >> 20} MB")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError(f"no JSON object, but {type(found).__name__}")
    return found


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
