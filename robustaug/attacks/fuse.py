"""A cheaper form of the same model for the search: batch normalisation folded into the convolutions before it.

Only rounding differs, and what breaks the folded model counts once it breaks the model itself.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from robustaug.models.classifier import logits_of

TRUSTED = ("torch.nn.", "torchvision.models.", "timm.", "robustaug.models.")
"""Where models come from that do in every forward what they did in the one that was traced."""

CLOSE = 1e-3
"""The folded model's logits may differ by this share of the largest."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

FOLDS: dict[type[nn.Module], tuple[type[nn.Module], Callable[[Any, Any], nn.Module]]] = {
    nn.BatchNorm1d: (nn.Linear, fuse_linear_bn_eval),
    nn.BatchNorm2d: (nn.Conv2d, fuse_conv_bn_eval),
    nn.BatchNorm3d: (nn.Conv3d, fuse_conv_bn_eval),
}


def fused(model: nn.Module, x: Tensor) -> nn.Module | None:
    """Return a copy of a model in eval mode with batch normalisation folded away, or None where that is not safe.

    A model is copied and traced only if all its parts come from libraries whose layers keep nothing from one forward
    to the next and draw nothing in eval mode, and carry no hooks; and only if the copy answers the same at x.

    Args:
        x: (B, ...) some samples.
    """
    if not any(type(part) in FOLDS for part in model.modules()) or not _is_plain(model):
        return None
    try:
        folded = _folded(copy.deepcopy(model))
        if not any(isinstance(part, fx.GraphModule) for part in folded.modules()) or not _agrees(model, folded, x):
            return None
    except Exception:  # what cannot be copied, or asks its parts for more than a forward, is searched as it is
        return None
    for parameter in folded.parameters():
        parameter.requires_grad_(False)
    return folded


def _folded(module: nn.Module) -> nn.Module:
    """Fold what can be traced as a whole, else what its children hold."""
    if not any(type(part) in FOLDS for part in module.modules()):
        return module
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # a forward that looks at its input cannot be traced, and says so in its own way
        for name, child in module.named_children():
            setattr(module, name, _folded(child))
        return module
    return traced if _fold(traced) else module


def _is_plain(model: nn.Module) -> bool:
    return all(
        type(part).__module__.startswith(TRUSTED)
        and not part.training
        and not any(getattr(part, hooks) for hooks in HOOKS)
        and "forward" not in vars(part)  # one of its own, which tracing does not see
        for part in model.modules()
    )


def _fold(traced: fx.GraphModule) -> int:
    """Replace each layer that feeds only a batch normalisation by the two in one; return how many."""
    layers: dict[str, nn.Module] = dict(traced.named_modules())
    count = 0
    for node in [*traced.graph.nodes]:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        norm, layer = layers[str(node.target)], layers[str(before.target)]
        kind, fold = FOLDS.get(type(norm), (type(None), None))
        uses = sum(n.op == "call_module" and n.target == before.target for n in traced.graph.nodes)
        if fold is None or type(layer) is not kind or uses != 1 or norm.running_var is None:
            continue
        parent, _, name = str(before.target).rpartition(".")
        setattr(traced.get_submodule(parent), name, fold(layer, norm))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        count += 1
    _overwrite(traced, layers)
    traced.recompile()
    return count


def _overwrite(traced: fx.GraphModule, layers: Mapping[str, nn.Module]) -> None:
    """Let each ReLU overwrite its input, where that comes from a layer that nothing else reads."""
    for name, layer in layers.items():
        sites = [node for node in traced.graph.nodes if node.op == "call_module" and node.target == name]
        if type(layer) is nn.ReLU and sites:
            layer.inplace = all(_is_alone(node.args[0], layers) for node in sites)


def _is_alone(node: Any, layers: Mapping[str, nn.Module]) -> bool:
    made_by_layer = isinstance(node, fx.Node) and node.op == "call_module" and len(node.users) == 1
    return made_by_layer and isinstance(layers[str(node.target)], nn.Conv2d | nn.Conv3d | nn.Linear)


def _agrees(model: nn.Module, other: nn.Module, x: Tensor) -> bool:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own, folded = logits_of(model(x[:4].clone())), logits_of(other(x[:4].clone()))
    return bool(torch.allclose(own, folded, rtol=0, atol=CLOSE * float(own.abs().amax().clamp_min(1e-6))))
