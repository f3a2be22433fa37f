"""Token ids of another server's answer: as it tells them, or made from its text and held against its count.

Such a server cuts its text between tokens only, so each piece is made into tokens by itself; what its reasoning parser
took out, the tags of the thinking span, is put back. Tokens can be written that text does not show (a special one, or
two in place of one): then the counts differ, and it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trajkit.errors import InputError
from trajkit.vlm.sentences import CLOSE, OPEN

if TYPE_CHECKING:
    from trajkit.attribution.follow import Follower
    from trajkit.vlm.model import VLM

_IMPOSSIBLE = -100.0
"""Log-probabilities below stand for none: servers write them in place of minus infinity."""
_FEWEST = 8
"""Tokens with log-probabilities from which on two models are told apart."""


class TokensError(InputError):
    """No tokens of this model are those that another server wrote."""


def opens_thinking(vlm: VLM) -> bool:
    """Whether the model's prompts end with the tag that opens the thinking span, so that its answers lack it."""
    asked = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    text = vlm.processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return str(text).rstrip().endswith(OPEN)


class Tokens:
    """Token ids of one answer, choice by choice of its chunks."""

    def __init__(self, vlm: VLM, opened: bool) -> None:
        """opened: as `opens_thinking`."""
        self.n = 0
        """Tokens so far."""
        self.logprobs: list[float] = []
        """Of the first tokens, where the server tells them."""
        self._vlm, self._opened = vlm, opened
        self._made = self._thought = self._answering = False
        self._ends = {vlm.tokenizer.convert_ids_to_tokens(token): token for token in vlm.end_tokens}

    def of(self, choice: Mapping[str, Any], thinking: str, text: str) -> list[int]:
        """The next tokens. thinking, text: what the choice's delta adds to either side of the answer.

        Raises TokensError where the text is none of this model's, or makes more tokens than the server tells
        log-probabilities of.
        """
        entries = (choice.get("logprobs") or {}).get("content") or []
        self.logprobs += [float(entry["logprob"]) for entry in entries]
        told = choice.get("token_ids")
        if isinstance(told, list):
            new = list(told)
        else:
            new = self._from_text(thinking, text, [str(entry.get("token")) for entry in entries])
            self._made = self._made or bool(new)
        self.n += len(new)
        if self._made and self.logprobs and self.n > len(self.logprobs):
            raise TokensError(self._differ(len(self.logprobs)))
        return new

    def doubt(self, told: int | None, reason: str, stops: bool) -> str | None:
        """What is wrong with tokens that were made, once the answer has ended; None where nothing is.

        told: tokens that the server counts. reason: its `finish_reason`. stops: whether it may have cut the text at a
        stop string, whose tokens it counts too. It may count the token that ends the answer or leave it out.
        """
        told = len(self.logprobs) or None if told is None else told
        if not self._made or told is None:
            return None
        unseen = (reason == "stop") + (self._thought and not self._answering)
        right = self.n <= told if reason == "stop" and stops else self.n <= told <= self.n + unseen
        return None if right else self._differ(told)

    def source(self, told: int | None) -> str:
        """Where the ids are from: "told" by the server, "made" from its text and counted, or "unchecked", made from
        text of which the server tells no count."""
        if not self._made:
            return "told"
        return "unchecked" if told is None and not self.logprobs else "made"

    def _differ(self, told: int) -> str:
        return (
            f"the other server tells no token ids, and its text makes {self.n} tokens here where it wrote {told}: "
            "steps of this run, from where they part on, are not of what was written. Serve the same tokenizer, by a "
            "server that tells ids if there is one (vLLM's return_token_ids)."
        )

    def _from_text(self, thinking: str, text: str, names: Sequence[str]) -> list[int]:
        """names: of the tokens, where they are told, among them those that no text shows."""
        out: list[int] = []
        if thinking and not self._thought and not self._opened:
            out += self._tag(OPEN, self._vlm.think_start)
        out += self._encoded(thinking)
        self._thought = self._thought or bool(thinking)
        named = CLOSE in names and CLOSE not in text
        if not self._answering and (named or (text and self._thought)):
            out += self._tag(CLOSE, self._vlm.think_end)
            self._answering = True
        out += self._encoded(text)
        return out + [self._ends[name] for name in names if name in self._ends and name not in text]

    def _tag(self, tag: str, token: int | None) -> list[int]:
        return self._encoded(tag) if token is None else [token]

    def _encoded(self, text: str) -> list[int]:
        if not text:
            return []
        tokenizer = self._vlm.tokenizer
        ids = list(tokenizer.encode(text, add_special_tokens=False))
        if "".join(tokenizer.decode(ids, skip_special_tokens=True).split()) != "".join(text.split()):
            raise TokensError(
                f"the other server tells no token ids, and wrote {text[:80]!r}, which no tokens of this model's make; "
                "from there on the run is not followed. Serve the same model."
            )
        return ids


def logprob_difference(tokens: Tokens, follower: Follower) -> tuple[float, int]:
    """Mean |difference|, nats, of the log-probabilities that another server tells and those of the model here, and of
    how many tokens of explained steps that is; (0, 0) of none.

    Both are before temperature (vLLM's `raw_logprobs`, its default). Steps keep those of the model here: detectors were
    fitted on such, their entropies are known nowhere else, and a risk must not depend on what a client asked for.
    """
    pairs = [
        (own, tokens.logprobs[at])
        for at, own in follower.logprobs.items()
        if at < len(tokens.logprobs) and tokens.logprobs[at] > _IMPOSSIBLE
    ]
    return (sum(abs(own - told) for own, told in pairs) / len(pairs) if pairs else 0.0), len(pairs)


def model_doubt(difference: float, n: int, rounding: float) -> str | None:
    """What a difference of log-probabilities says of the two models; None where it is no more than rounding."""
    if n < _FEWEST or difference <= rounding:
        return None
    return (
        f"the other server's log-probabilities differ from those here by {difference:.2g} nats a token, over {n}, and "
        f"by rounding alone it would be {rounding:.2g} at most: it serves other weights, or of another precision. "
        "Effects and risks are of the model here."
    )
