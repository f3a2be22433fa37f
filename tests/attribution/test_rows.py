"""Rows of many short passes are kept together, as they came."""

from __future__ import annotations

from collections import deque

import torch

from trajkit.attribution.rows import ROOM, Pass, Rows, ShortPasses

BATCH, HEADS, WIDTH, LAYERS = 2, 3, 4, 2


def layers_of(rows: int, seed: int):
    draw = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(BATCH, HEADS, rows, WIDTH, generator=draw), torch.randn(BATCH, HEADS, rows, generator=draw))
        for _ in range(LAYERS)
    ]


def kept(passes, start):
    """The passes one after another, each in what has room for it."""
    held = deque[Pass]()
    for layers in passes:
        rows = layers[0][0].shape[2]
        if not held or not held[-1].begin(rows):
            held.append(ShortPasses(held[-1].end if held else start, LAYERS))
            assert held[-1].begin(rows)
        for query, lse in layers:
            held[-1].add(query, lse)
    return held


def test_rows_come_out_as_they_went_in_also_where_room_ends():
    passes = [layers_of(1 + i % 3, i) for i in range(ROOM)]
    held = kept(passes, start=10)
    total = sum(layers[0][0].shape[2] for layers in passes)
    assert len(held) > 1
    assert held[-1].end == 10 + total
    for start, n in ((0, total), (ROOM - 5, 11), (total - 1, 1)):
        for sequence in range(BATCH):
            rows = Rows.of_passes(held, 10 + start, n, sequence)
            for layer, (query, lse) in enumerate(rows.layers()):
                whole = [torch.cat([one[layer][part] for one in passes], 2)[sequence] for part in (0, 1)]
                assert torch.equal(query, whole[0][:, start : start + n])
                assert torch.equal(lse, whole[1][:, start : start + n])


def test_rows_taken_stay_as_they_are_when_more_come():
    first = layers_of(2, 0)
    held = kept([first], start=0)
    rows = Rows.of_passes(held, 0, 2, 1)
    assert held[-1].begin(1)
    for query, lse in layers_of(1, 1):
        held[-1].add(query, lse)
    for (query, _), (expected, _) in zip(rows.layers(), first, strict=True):
        assert torch.equal(query, expected[1])


def test_one_pass_without_log_sum_exp_leaves_all_that_are_kept_with_it_without():
    with_lse, without = layers_of(1, 0), [(query, None) for query, _ in layers_of(1, 1)]
    for passes in ([with_lse, without], [without, with_lse]):
        rows = Rows.of_passes(kept(passes, start=0), 0, 2, 0)
        assert all(lse is None and query.shape == (HEADS, 2, WIDTH) for query, lse in rows.layers())


def test_memory_is_not_the_models_own():
    layers = layers_of(1, 0)
    held = kept([layers], start=0)
    assert held[0].queries[0].data_ptr() != layers[0][0].data_ptr()
