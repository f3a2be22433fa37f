"""Hidden states of the steps of a run: what a linear probe, the strongest published baseline, reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from trajkit.vlm.model import VLM

MOST = 128
"""Numbers kept of a hidden state; a wider one is projected."""


@contextmanager
def last_hidden_states(vlm: VLM) -> Iterator[list[Tensor]]:
    """The inputs of the output layer, (B, rows, width) for each pass that this thread makes inside the block."""
    seen: list[Tensor] = []
    own = get_ident()

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if get_ident() == own:
            seen.append(inputs[0])

    hook = vlm.model.get_output_embeddings().register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


def shortened(states: Tensor) -> Tensor:
    """(T, width) → (T, min(width, MOST)) float32: as they are, or on random directions, the same for every model.

    Gaussian directions keep distances to about 1/√MOST (Johnson & Lindenstrauss 1984); they depend on the width alone.
    """
    width = states.shape[1]
    if width <= MOST:
        return states.float()
    directions = torch.randn(width, MOST, generator=torch.Generator().manual_seed(width)) / MOST**0.5
    return states.float() @ directions.to(states.device)
