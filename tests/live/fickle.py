"""A server that does not always answer: another application, before which faults are put."""

from __future__ import annotations

import asyncio
import json

from starlette.responses import JSONResponse, Response

CHAT = "/v1/chat/completions"


class Fickle:
    """faults: what becomes of each request for an answer in turn, None for nothing; the last of them for all after it.
    A number is the status with which it is refused; "cut" and "nonsense" come in the middle of the answer, "stall"
    before it, "endless" is more than was asked for. change: of each chunk. hidden: fields of a request that it refuses
    with 422. bodies: what was asked. most, now: requests in flight at once."""

    def __init__(self, app, faults=(None,), change=lambda chunk: None, hidden=(), wait=0.0):
        self.app, self.faults, self.change, self.hidden, self.wait = app, list(faults), change, hidden, wait
        self.bodies, self.most, self.now = [], 0, 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != CHAT:
            await self.app(scope, receive, send)
            return
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self._answer(scope, receive, send)
        finally:
            self.now -= 1

    async def _answer(self, scope, receive, send):
        message = await receive()
        while message.get("more_body"):
            more = await receive()
            message = more | {"body": message["body"] + more["body"]}
        body = json.loads(message["body"])
        self.bodies.append(body)
        await asyncio.sleep(self.wait)
        if any(name in body for name in self.hidden):
            await JSONResponse({"error": "unknown field"}, 422)(scope, receive, send)
            return
        fault = self.faults.pop(0) if len(self.faults) > 1 else self.faults[0]
        if isinstance(fault, int):
            refusal = JSONResponse({"error": "not now"}, fault, {"Retry-After": "0"})
            await refusal(scope, receive, send)
        elif fault == "stall":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif fault == "endless":
            chunk = {"choices": [{"delta": {"content": "1"}, "token_ids": [5] * 200, "finish_reason": "stop"}]}
            await Response("".join(f"data: {json.dumps(chunk)}\n\n" for _ in range(5)))(scope, receive, send)
        else:
            await self._pass_on(scope, [message], receive, send, fault)

    async def _pass_on(self, scope, first, receive, send, fault):
        async def received():
            return first.pop() if first else await receive()

        n_parts = 0

        async def sent(message):
            nonlocal n_parts
            if message["type"] == "http.response.body":
                n_parts += 1
                if fault is not None and n_parts > 5:
                    if fault == "nonsense" and n_parts == 6:
                        await send({"type": "http.response.body", "body": b"data: {not json\n\n", "more_body": True})
                    raise ConnectionError("cut off")
                message = message | {"body": self._changed(message["body"])}
            await send(message)

        try:
            await self.app(scope, received, sent)
        except ConnectionError:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _changed(self, data):
        if not data.startswith(b"data: {"):
            return data
        self.change(chunk := json.loads(data[6:]))
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"
