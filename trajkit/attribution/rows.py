"""Rows: queries of consecutive positions of one sequence and their log-sum-exp, as the tap keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile

import torch
from torch import Tensor

ROOM = 64
"""Rows that short passes are kept in together, most."""


@dataclass(eq=False)
class Pass:
    """What the layers of one pass gave for rows [start, start + n) of a batch of B sequences, padding counted.

    queries: (B, H, n, D) of each layer; lse: (B, H, n) float32, or None where the kernel did not tell it.
    """

    start: int
    n: int
    queries: list[Tensor] = field(default_factory=list)
    lse: list[Tensor | None] = field(default_factory=list)
    _skipped: int = 0

    @property
    def end(self) -> int:
        return self.start + self.n

    def skip(self, rows: int) -> None:
        """Keep nothing of the first `rows` rows; said before the first layer's are added."""
        self._skipped = min(max(rows, 0), self.n)
        self.start, self.n = self.start + self._skipped, self.n - self._skipped

    def after(self, row: int) -> Pass:
        """The rows from `row` on, in memory of their own."""
        n = row - self.start
        lse = [None if one is None else one[:, :, n:].clone() for one in self.lse]
        return Pass(row, self.n - n, [query[:, :, n:].clone() for query in self.queries], lse)

    def add(self, query: Tensor, lse: Tensor | None) -> None:
        """Keep the next layer's rows, (B, H, n, D) and (B, H, n)."""
        if self._skipped:  # a view would hold the whole prompt
            query = query[:, :, self._skipped :].clone()
            lse = None if lse is None else lse[:, :, self._skipped :].clone()
        self.queries.append(query)
        self.lse.append(lse)


class ShortPasses(Pass):
    """The same of passes of a few rows each, one after the other, copied into room of their own.

    Kept as they came, thousands of small tensors would lie between the large ones that a cache makes anew at every
    token, and decoding would be a tenth slower.
    """

    def __init__(self, start: int, layers: int) -> None:
        super().__init__(start, 0)
        self._layers, self._new = layers, 0
        self._coming: list[tuple[Tensor, Tensor | None]] = []
        self._room: tuple[Tensor, Tensor] | None = None  # (ROOM, L, B, H, D), (ROOM, L, B, H)

    @property
    def full(self) -> bool:
        return self.n >= ROOM

    def begin(self, rows: int) -> bool:
        """Whether there is room for a pass of so many rows, whose layers are then added next."""
        if self.n + rows > ROOM:
            return False
        self.n, self._new = self.n + rows, rows
        return True

    def add(self, query: Tensor, lse: Tensor | None) -> None:
        """As `Pass.add`; kept together once the last layer has come."""
        self._coming.append((query, lse))
        if len(self._coming) < self._layers:
            return
        queries, told = [query for query, _ in self._coming], [lse for _, lse in self._coming if lse is not None]
        self._coming = []
        if self._room is None:
            self._make_room(query, len(told) == self._layers)
        elif len(told) < self._layers:
            self.lse = [None] * self._layers
        assert self._room is not None
        for row in range(self._new):
            at = self.n - self._new + row
            torch.stack([query[:, :, row] for query in queries], out=self._room[0][at])
            if self.lse[0] is not None:
                torch.stack([lse[:, :, row] for lse in told], out=self._room[1][at])

    def _make_room(self, like: Tensor, told: bool) -> None:
        batch, heads, _, width = like.shape
        queries = like.new_empty(ROOM, self._layers, batch, heads, width)
        lse = like.new_empty(ROOM, self._layers, batch, heads, dtype=torch.float32)
        self._room = queries, lse
        self.queries = [own.permute(1, 2, 0, 3) for own in queries.unbind(1)]
        self.lse = [own.permute(1, 2, 0) if told else None for own in lse.unbind(1)]


@dataclass(frozen=True, eq=False)
class Rows:
    """`n` consecutive rows of one sequence, in all layers: rows [skip, skip + n) of what `passes` hold together."""

    passes: tuple[Pass, ...]
    skip: int
    n: int
    sequence: int = 0

    @classmethod
    def of_passes(cls, passes: Iterable[Pass], start: int, n: int, sequence: int) -> Rows:
        """Rows [start, start + n) of the batch, which `passes` hold in order."""
        held = tuple(one for one in takewhile(lambda one: one.start < start + n, passes) if one.end > start)
        return cls(held, start - held[0].start if held else 0, n, sequence)

    def part(self, start: int, end: int) -> Rows:
        """Rows [start, end) of these."""
        return replace(self, skip=self.skip + start, n=end - start)

    def layers(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """(H, n, D) queries and (H, n) log-sum-exp of each layer."""
        for layer in range(len(self.passes[0].queries) if self.passes else 0):
            lse = [one.lse[layer] for one in self.passes]
            told = [one for one in lse if one is not None]
            yield (
                self._joined([one.queries[layer] for one in self.passes]),
                self._joined(told) if len(told) == len(lse) else None,
            )

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """Of (B, H, m, …) of each pass, this sequence's rows as (H, n, …); behind its rows a pass may have room."""
        own = [part[self.sequence, :, : one.n] for part, one in zip(parts, self.passes, strict=True)]
        whole = torch.cat(own, 1) if len(own) > 1 else own[0]
        return whole[:, self.skip : self.skip + self.n]

    @property
    def n_heads(self) -> int:
        """L·H: heads of all layers."""
        return sum(query.shape[1] for query in self.passes[0].queries) if self.passes else 0

    @property
    def nbytes(self) -> int:
        """Memory of the passes that they are held in, bytes."""
        return sum(query.nbytes for one in self.passes for query in one.queries)
