"""Replay: one teacher-forced pass over finished generations gives the features of all their steps.

Generations share a pass without padding (`packed`), so that short ones cost little more than the tokens they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.features import Pooling, StepFeatures
from trajkit.attribution.hidden import shortened
from trajkit.attribution.packed import Piece, ReadSequence, Seen, read_pieces
from trajkit.attribution.regions import Regions
from trajkit.attribution.uncertainty import uncertainty_after
from trajkit.errors import InputError, untraced
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


@dataclass(frozen=True, eq=False)
class Cut:
    """A generation cut into steps. tokens: (n,) ids, the first being the one after the prompt."""

    prompt: Prompt
    tokens: Tensor
    spans: Sequence[Span]
    regions: Regions

    @property
    def end(self) -> int:
        """Position before which all stands that a step rests on: the row that predicts its last token is the last."""
        return self.prompt.length - 1 + self.spans[-1].end if self.spans else 1


@dataclass(frozen=True, eq=False)
class Replay:
    """features: (T, K, 2·L·H + 3), as by StepFeatures. logprob, entropy: (T,) mean over a step's tokens, nats.

    hidden: (T, at most 128) the last layer's state that each step's last token was predicted from, where asked for.
    """

    features: NDArray[np.float32]
    logprob: NDArray[np.float64]
    entropy: NDArray[np.float64]
    hidden: NDArray[np.float32] | None = None


def replay(
    vlm: VLM,
    prompt: Prompt,
    tokens: Tensor,
    spans: Sequence[Span],
    regions: Regions,
    pooling: Pooling,
    keep_hidden: bool = False,
) -> Replay:
    """Features, log-probability and entropy of every step of a generation `tokens`, (n,); hidden states if asked."""
    (found,) = replay_together(vlm, [Cut(prompt, tokens, spans, regions)], pooling, keep_hidden)
    if isinstance(found, InputError):
        raise found
    return found


@torch.inference_mode()
def replay_together(
    vlm: VLM, runs: Sequence[Cut], pooling: Pooling, keep_hidden: bool = False
) -> Iterator[Replay | InputError]:
    """As `replay`, of several runs with at least a step each, in order; an error in place of one that has none.

    Runs share passes, `packed.ROWS_AT_ONCE` tokens at a time. Alone or together, they are the same but for rounding.
    """
    pieces = [_piece(vlm, run) for run in runs]
    for run, piece, seen in zip(runs, pieces, read_pieces(vlm, pieces), strict=True):
        try:
            yield _replayed(vlm, run, piece.sequence, seen, pooling, keep_hidden)
        except InputError as error:  # of this run alone
            yield untraced(error)


def _piece(vlm: VLM, run: Cut) -> Piece:
    tokens = torch.cat([run.prompt.inputs["input_ids"][0], run.tokens])[: run.end]
    return Piece(ReadSequence(vlm, run.prompt), tokens, run.prompt.first_row)


def _replayed(vlm: VLM, run: Cut, sequence: ReadSequence, seen: Seen, pooling: Pooling, keep_hidden: bool) -> Replay:
    before = run.prompt.length - 1  # row t−1 predicts token t
    hidden = seen.hidden[before:]
    of_tokens = uncertainty_after(vlm, hidden, run.tokens[: len(hidden)])
    steps = StepFeatures(run.regions, run.prompt, pooling)
    features, logprob, entropy = [], [], []
    for span in run.spans:  # a step at a time: a whole run's attention may not fit in memory
        logprob.append(of_tokens[0][span.start : span.end].mean())
        entropy.append(of_tokens[1][span.start : span.end].mean())
        n, upto = span.end - span.start, before + span.end
        at = steps.next_row - run.prompt.first_row
        rows = seen.rows.part(at, upto - run.prompt.first_row)
        facts = (logprob[-1], entropy[-1], torch.tensor(n, device=hidden.device))
        features.append(steps.push(rows, sequence.keys(upto), sequence.scaling, n, facts))
    return Replay(
        torch.stack(features).cpu().numpy(),
        torch.stack(logprob).double().cpu().numpy(),
        torch.stack(entropy).double().cpu().numpy(),
        shortened(hidden[[span.end - 1 for span in run.spans]]).cpu().numpy() if keep_hidden else None,
    )
