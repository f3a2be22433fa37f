"""Hidden states of the steps of a run: what a linear probe, the strongest published baseline, reads."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 128
"""Numbers kept of a hidden state; a wider one is projected."""


def shortened(states: Tensor) -> Tensor:
    """(T, width) → (T, min(width, MOST)) float32: as they are, or on random directions, the same for every model.

    Gaussian directions keep distances to about 1/√MOST (Johnson & Lindenstrauss 1984); they depend on the width alone.
    """
    width = states.shape[1]
    if width <= MOST:
        return states.float()
    directions = torch.randn(width, MOST, generator=torch.Generator().manual_seed(width)) / MOST**0.5
    return states.float() @ directions.to(states.device)
