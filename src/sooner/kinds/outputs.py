"""Which layers of a model are its output, by what it says itself, by their names and by their place."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sooner.kinds.layers import DENSE, is_conv1d, is_weight
from sooner.kinds.role import bare_name

_HEAD = re.compile(
    r"^(?!.*(multi|attn|attention|sa|conv)_?heads?$)((.*_)?heads?|head_.+|classifiers?|score|logits|to_logits|(un|dis)embed\w*"
    r"|embed_out|qa_outputs|output_projection)$",
    re.IGNORECASE,
)
_ATTENTION = re.compile(r"attn|attention|^sa\d*$|^mha$|^sa_", re.IGNORECASE)
_WEAK_HEADS = (
    re.compile(r"^(out|output|outputs|final|proj_out|predictor|predictions?)(_?(layer|linear|fc|proj))?\d?$"),
    re.compile(r"^(fc|fc_out|last|last_linear|last_layer|linear_out|to_out|decoder|generator|readout)$"),
)
"""Names that inner layers have as well: they count at the top of a model, the first line before the second."""


def outputs(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[Tensor, str]:
    """Return the weights of a model's output layers and how that is known."""
    found: dict[Tensor, str] = {}
    for module in modules.values():
        give = getattr(module, "get_output_embeddings", None)
        try:
            layer = give() if callable(give) and not isinstance(module, nn.Sequential) else None
        except (NotImplementedError, AttributeError):
            layer = None
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor):
            found.setdefault(weight, "what get_output_embeddings returns")
    holders: list[tuple[str, Tensor]] = []
    layers = (*DENSE[:2], nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag)
    for path, module in modules.items():
        inner = path.partition(".parametrizations.")[0]
        if isinstance(modules[inner], layers) or is_conv1d(modules[inner]):
            for leaf, p in module.named_parameters(recurse=False, remove_duplicate=False):
                if is_weight(leaf, p) and "lora_" not in path:
                    holders.append((bare_name(f"{inner}.{leaf}").rpartition(".")[0], p))
    named = named_outputs([path for path, _ in holders])
    found |= {
        weight: "the output layer by its name" for path, weight in holders if path in named and weight not in found
    }
    if not found and holders:
        last = _last(holders, modules)
        return {} if last is None else {last: "the last layer"}
    raw = [p for module in modules.values() for p in module.parameters(recurse=False) if p.ndim == 2]
    return {raw[-1]: "the last weight"} if not found and raw else found


def named_outputs(paths: Sequence[str]) -> set[str]:
    """Return which of these layers, in the model's order, are output layers by name.

    A name may be that of the layer or of what contains it, such as ``classifier.6`` or ``lm_head.decoder``; of a
    container the last layer counts, of a list of heads the last of each.
    """
    parts = {path: path.split(".") for path in paths}
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    inside: dict[tuple[str, ...], str] = {}
    for path, own in parts.items():
        at = next((i for i, part in enumerate(own) if _HEAD.match(part)), None)
        if at is None or any(_ATTENTION.search(part) for part in own[:at]) or "lora_" in path:
            continue
        top = own[: at + 1]
        places[".".join("*" if part.isdigit() else part for part in top)].add(tuple(top))
        several = own[at].endswith("s") and len(own) > at + 1 and own[at + 1].isdigit()
        inside[tuple(own[: at + 2] if several else top)] = path  # the last one stays
    strong = {
        path
        for top, path in inside.items()
        if len(places[".".join("*" if part.isdigit() else part for part in _head_part(top))]) == 1  # no repeated block
    }
    if strong:
        return strong
    for names in _WEAK_HEADS:
        weak = {
            own[0]: path
            for path, own in parts.items()
            if names.match(own[0]) and not any(part.isdigit() for part in own[1:-1])
        }
        if weak:
            return {list(weak.values())[-1]}
    return set()


def _head_part(top: tuple[str, ...]) -> tuple[str, ...]:
    at = next(i for i, part in enumerate(top) if _HEAD.match(part))
    return top[: at + 1]


def _last(holders: Sequence[tuple[str, Tensor]], modules: Mapping[str, nn.Module]) -> Tensor | None:
    """Return the output layer of a model that names none; None where the last layer is one of several alike blocks.

    That is the last layer defined, unless its result has a width that others take in while exactly one layer outside of
    all blocks has a width that nobody takes in.
    """
    taken = {module.normalized_shape[-1] for module in modules.values() if isinstance(module, nn.LayerNorm)}
    taken |= {p.shape[1] for _, p in holders if p.ndim == 2}
    path, last = holders[-1]
    loose = [
        p
        for where, p in holders
        if p.ndim == 2 and not any(part.isdigit() for part in where.split(".")) and _nobody_takes(p, taken)
    ]
    if last.ndim == 2 and last.shape[0] in taken and len(loose) == 1 and not path.rpartition(".")[2].isdigit():
        return loose[0]
    return None if _repeated(path, last, holders) else last


def _nobody_takes(p: Tensor, taken: set[int]) -> bool:
    """Whether no layer takes in as many features as this one gives, not even a third or half of them (fused layers)."""
    return not any(p.shape[0] in (width, 2 * width, 3 * width, 4 * width) for width in taken)


def _repeated(path: str, p: Tensor, holders: Sequence[tuple[str, Tensor]]) -> bool:
    """Whether a layer inside a numbered block has a twin at the same place of another one."""
    parts = path.split(".")
    if not any(part.isdigit() for part in parts[:-1]):
        return False
    pattern = re.compile(r"\.".join(r"\d+" if part.isdigit() else re.escape(part) for part in parts))
    return sum(bool(pattern.fullmatch(other)) and q.shape == p.shape for other, q in holders) > 1
