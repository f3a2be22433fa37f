"""AttnLRP (Achtibat et al. 2024, arXiv 2402.05602): relevance propagated back from the logits, by gradient × input.

With its rules written into the backward pass, one ordinary gradient times the input gives the relevance:

- linear layers: ε-rule with ε → 0, which is gradient × input as it stands;
- softmax: first-order Taylor expansion, x_i (R_i − s_i Σ_j R_j) per row: gradient × input as it stands;
- products (attention × values, queries × keys, gate × up): uniform rule, each factor gets half of the gradient;
- activations: identity rule, f(x) = x · [f(x)/x] with the bracket held constant;
- RMSNorm: identity rule, the variance held constant.

Relevance is conserved but for what biases and softmax take in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trajkit.attribution.baselines.replayed import by_region, by_step, pass_inputs
from trajkit.attribution.regions import Regions
from trajkit.attribution.wrapped import AttentionFunction, attention_kernel
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


def attnlrp(vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions) -> NDArray[Any]:
    """(T, K) logits: relevance of a region's image tokens for the summed logits of the step's tokens, signed.

    Of the text stack; the vision tower is not part of it. Where a model feeds image features into several layers
    (Qwen3-VL), an image token's relevance is summed over them. One forward pass, then one backward pass a step.
    """
    tokens = tokens.clone()  # autograd cannot save a tensor made in inference mode
    with lrp_rules(vlm), image_leaves(vlm) as leaves:
        logits = vlm.model(**pass_inputs(vlm, prompt, tokens), use_cache=False, logits_to_keep=len(tokens) + 1).logits[
            0, :-1
        ]
    steps = by_step(logits.float().gather(-1, tokens[:, None])[:, 0], spans)  # (T,)
    found = []
    for step in steps:
        embeds, *deep = _relevance(step, leaves)  # (1, S), and (N,) for every further layer
        found.append(sum(deep, start=embeds[0, prompt.image_tokens]))
    return by_region(torch.stack(found), prompt, regions)


def _relevance(output: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    gradients = torch.autograd.grad(output, leaves, retain_graph=True)
    return [(g * x.detach()).float().sum(-1) for g, x in zip(gradients, leaves, strict=True)]


@contextmanager
def image_leaves(vlm: VLM) -> Iterator[list[Tensor]]:
    """Collect what enters the text stack as leaves of the graph: embeddings (1, S, D), then any deepstack (N, D)."""
    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]

    def enter(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        kwargs["inputs_embeds"] = leaf(kwargs["inputs_embeds"])
        if kwargs.get("deepstack_visual_embeds"):
            kwargs["deepstack_visual_embeds"] = [leaf(deep) for deep in kwargs["deepstack_visual_embeds"]]
        return args, kwargs

    handle = vlm.model.model.language_model.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        yield leaves
    finally:
        handle.remove()


@contextmanager
def lrp_rules(vlm: VLM) -> Iterator[None]:
    """Write AttnLRP's rules into the backward pass of the text stack; outputs stay as they are. Undone on leaving."""
    with ExitStack() as undo:
        undo.enter_context(attention_kernel(vlm, uniform_attention))
        for module in vlm.model.model.language_model.modules():
            for name, child in module.named_children():
                if hasattr(child, "variance_epsilon"):
                    undo.enter_context(_forward(child, constant_variance(child)))
                elif name in ("act_fn", "activation_fn"):
                    undo.enter_context(_forward(child, identity(child.forward)))
                elif name == "down_proj":
                    undo.callback(child.register_forward_pre_hook(lambda _, args: (scale(args[0], 0.5),)).remove)
        yield


@contextmanager
def _forward(module: nn.Module, function: Callable[..., Tensor]) -> Iterator[None]:
    module.forward = function
    try:
        yield
    finally:
        del module.forward  # the class's own shows again


def scale(x: Tensor, factor: float) -> Tensor:
    """x, with its gradient multiplied by `factor`."""
    return _Scale.apply(x, factor)


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.factor, None


def identity(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Identity rule for an elementwise activation: its gradient becomes f(x)/x."""

    def forward(x: Tensor) -> Tensor:
        value = activation(x).detach()
        slope = torch.where(x == 0, 0, value / torch.where(x == 0, 1, x)).detach()
        return value + slope * (x - x.detach())  # the difference is 0, with a gradient

    return forward


def constant_variance(norm: Any) -> Callable[[Tensor], Tensor]:
    """Identity rule for an RMSNorm with `weight` and `variance_epsilon`."""

    def forward(x: Tensor) -> Tensor:
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).detach()
        return norm.weight * scaled.to(x.dtype)

    return forward


def uniform_attention(kernel: AttentionFunction) -> AttentionFunction:
    """Uniform rule for softmax(q·k)·v: values get half, queries and keys half of the other half each."""

    def forward(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        return kernel(module, scale(query, 0.25), scale(key, 0.25), scale(value, 0.5), *args, **kwargs)

    return forward
