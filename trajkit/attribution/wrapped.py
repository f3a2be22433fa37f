"""The attention kernel of a model's text stack, wrapped for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

from trajkit.errors import InputError
from trajkit.vlm.model import VLM

AttentionFunction = Callable[..., Any]
"""As in transformers: (module, query (B, H, S, D), key (B, H_kv, S, D), value, ...) → (output, weights)."""

_names = count()


@contextmanager
def attention_kernel(vlm: VLM, wrap: Callable[[AttentionFunction], AttentionFunction]) -> Iterator[None]:
    """Run the text stack with `wrap(kernel in use)`; on leaving, the model and transformers' registries are as before.

    Holds `vlm.lock`, but passes of other threads, which do not ask for it, run with it too. Raises InputError where the
    model is on a kernel that has no entry in the registry, as the eager one.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def use(name: str) -> None:
        vlm.model.set_attn_implementation({vlm.adapter.text_config_key: name})

    with ExitStack() as undo:  # the last done is undone first, each whatever becomes of the others
        undo.enter_context(vlm.lock)
        before = vlm.text_config._attn_implementation
        if before not in ALL_ATTENTION_FUNCTIONS:
            raise InputError(
                f"attribution needs a model on a fast kernel (sdpa or flash attention); this one is on {before!r}. "
                "Load it with attn_implementation='sdpa', or by tk.load_vlm."
            )
        name = f"trajkit_{next(_names)}"
        # without a mask function of the same name the model would get no mask at all, silently
        for registry, function in (
            (ALL_ATTENTION_FUNCTIONS, wrap(ALL_ATTENTION_FUNCTIONS[before])),
            (ALL_MASK_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS[before]),
        ):
            undo.callback(type(registry)._global_mapping.pop, name, None)
            registry.register(name, function)
        undo.callback(use, before)
        use(name)
        yield
