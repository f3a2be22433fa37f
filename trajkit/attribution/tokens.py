"""Token ids of text that this model wrote elsewhere; those of another server's answer as it tells them, or made from
its text and held against its count.

Such a server cuts its text between tokens only, so each piece is made into tokens by itself; what its reasoning parser
took out, the tags of the thinking span, is put back. Tokens can be written that text does not show (a special one, or
two in place of one): then the counts differ, and it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from trajkit.errors import InputError
from trajkit.sentence_ends import CLOSE, OPEN

if TYPE_CHECKING:
    from trajkit.attribution.follow import Follower
    from trajkit.vlm.model import VLM

IMPOSSIBLE = -100.0
"""Log-probabilities below stand for none: servers write them in place of minus infinity."""
ROUNDING = {torch.float32: 1e-4, torch.float16: 0.005, torch.bfloat16: 0.03}
"""Mean |difference|, nats, that log-probabilities of the same weights may have, by the precision that they are followed
in: several times what the demo's model has (reports/serving.md), as deeper ones round more often."""
_FEWEST = 8
"""Tokens with log-probabilities from which on two models are told apart."""


class TokensError(InputError):
    """No tokens of this model are those that another server wrote."""


def opens_thinking(vlm: VLM) -> bool:
    """Whether the model's prompts end with the tag that opens the thinking span, so that its answers lack it."""
    asked = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    text = vlm.processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return str(text).rstrip().endswith(OPEN)


def tag_tokens(vlm: VLM, tag: str) -> list[int]:
    """The tokens of a tag of the thinking span: one of its own, or those of its text."""
    own = {OPEN: vlm.think_start, CLOSE: vlm.think_end}[tag]
    return encode_exactly(vlm, tag) if own is None else [own]


def encode_exactly(vlm: VLM, text: str) -> list[int]:
    """The tokens of a text. Raises TokensError where they decode to another one; white space is not compared."""
    if not text:
        return []
    ids = list(vlm.tokenizer.encode(text, add_special_tokens=False))
    if "".join(vlm.tokenizer.decode(ids, skip_special_tokens=True).split()) != "".join(text.split()):
        raise TokensError(f"no tokens of this model's make {text[:80]!r}; another one wrote it. Use that one.")
    return ids


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

    def ended(self, ids: Sequence[int]) -> list[int]:
        """The tokens of an answer that the model ended, with the token by which it did: a server may leave it out."""
        ends = set(self._ends.values())
        return [*ids, *ends] if len(ends) == 1 and ids and ids[-1] not in ends else list(ids)

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
            out += tag_tokens(self._vlm, OPEN)
        out += self._encoded(thinking)
        self._thought = self._thought or bool(thinking)
        named = CLOSE in names and CLOSE not in text
        if not self._answering and (named or (text and self._thought)):
            out += tag_tokens(self._vlm, CLOSE)
            self._answering = True
        out += self._encoded(text)
        return out + [self._ends[name] for name in names if name in self._ends and name not in text]

    def _encoded(self, text: str) -> list[int]:
        try:
            return encode_exactly(self._vlm, text)
        except TokensError as error:
            raise TokensError(
                f"the other server tells no token ids, and wrote {text[:80]!r}, which no tokens of this model's make; "
                "from there on the run is not followed. Serve the same model."
            ) from error


def logprob_difference(tokens: Tokens, follower: Follower) -> tuple[float, int]:
    """Mean |difference|, nats, of the log-probabilities that another server tells and those of the model here, and of
    how many tokens of explained steps that is; (0, 0) of none.

    Both are before temperature (vLLM's `raw_logprobs`, its default). Steps keep those of the model here: detectors were
    fitted on such, their entropies are known nowhere else, and a risk must not depend on what a client asked for.
    """
    pairs = [
        (own, tokens.logprobs[at])
        for at, own in follower.logprobs.items()
        if at < len(tokens.logprobs) and tokens.logprobs[at] > IMPOSSIBLE
    ]
    return (sum(abs(own - told) for own, told in pairs) / len(pairs) if pairs else 0.0), len(pairs)


def prompt_doubt(ours: int, theirs: int | None) -> str | None:
    """What the numbers of tokens that two engines made of a prompt say; None where they say nothing."""
    if theirs is None or ours == theirs:
        return None
    return (
        f"the other server counts {theirs} tokens of the prompt, and the one made here has {ours}: effects are of "
        "another prompt. Give both the same image sizes, system prompt and chat template."
    )


def rounding_of(vlm: VLM) -> float:
    """Mean |difference| of log-probabilities, nats, that a model's precision explains."""
    return ROUNDING.get(vlm.model.dtype, max(ROUNDING.values()))


def of_other_weights(difference: float, n: int, rounding: float) -> bool:
    """Whether log-probabilities of `n` tokens differ by more than rounding makes them, nats a token."""
    return n >= _FEWEST and difference > rounding


def model_doubt(difference: float, n: int, rounding: float) -> str | None:
    """What a difference of log-probabilities says of the two models; None where it is no more than rounding."""
    if not of_other_weights(difference, n, rounding):
        return None
    return (
        f"the other server's log-probabilities differ from those here by {difference:.2g} nats a token, over {n}, and "
        f"by rounding alone it would be {rounding:.2g} at most: it serves other weights, or of another precision. "
        "Effects and risks are of the model here."
    )
