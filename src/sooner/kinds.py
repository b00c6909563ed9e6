"""What every parameter of a model is: a hidden matrix, an embedding, the output layer, a gain, a bias, a token.

Methods treat these differently: Muon steps hidden matrices only, weight decay may leave gains and biases alone. A model
says most, by the types of its modules and their place in it; names say less; a bare tensor has nothing but its shape.

    matrix      a weight that multiplies activations: linear, recurrent, attention, convolution, stacked experts, LoRA
    depthwise   a convolution kernel with one input channel per group: a filter per channel, not a matrix
    embedding   a table of rows that are looked up; also where it is tied to the output layer
    head        the weight of the output layer
    gain        what scales elementwise: of a normalisation, a layer scale
    bias        what is added elementwise
    token       a learned input: class token, position table, register, prompt
    scalar      a single number, such as a temperature
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from sooner.error import SoonerError
from sooner.foundation.model_names import PRIVATE

Kind = Literal["matrix", "depthwise", "embedding", "head", "gain", "bias", "token", "scalar"]

WEIGHTS: frozenset[str] = frozenset({"matrix", "depthwise", "embedding", "head"})
"""The kinds that multiply or are looked up, which is what weight decay is for."""


@dataclass(frozen=True)
class Role:
    """What one parameter is.

    Attributes:
        name: in the model, without what wrappers put before it; ``""`` for a bare tensor.
        kind: one of the kinds above.
        why: how that is known, in a few words.
        stacked: whether a matrix is stored as a stack ``[..., rows, columns]``; else it is ``[rows, *columns]``.
        transposed: whether it is stored ``[in, out]``, the other way round than `torch.nn.Linear` stores it.
    """

    name: str
    kind: Kind
    why: str
    stacked: bool = False
    transposed: bool = False


def plain_name(name: str) -> str:
    """Return a parameter's or module's name without what DDP, FSDP, torch.compile and peft put into it."""
    parts = [part for part in name.split(".") if part not in (*PRIVATE, "original_module")]
    while parts[:1] == ["module"]:
        parts = parts[1:]
    if parts[:2] == ["base_model", "model"]:
        parts = parts[2:]
    plain = re.sub(r"\.modules_to_save\.[^.]+|\.base_layer(?=\.|$)", "", "." + ".".join(parts))
    return plain[1:]


def roles(model: nn.Module) -> dict[Tensor, Role]:
    """Return what every parameter of a model is, each once, in the order of ``model.parameters()``.

    A weight that is shared is an embedding where one of its places is an embedding. The output layer is what the model
    calls it (`get_output_embeddings` of Hugging Face, a module named head, classifier and the like); otherwise the last
    layer, unless that is one of several alike blocks.

    Raises:
        SoonerError: a lazy module is not initialised yet.
    """
    lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        raise SoonerError(
            f"parameter {lazy[0]} has no shape yet; run the model once on a batch, then make the optimizer"
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    outputs = _outputs(model, modules)
    found: dict[Tensor, Role] = {}
    for path, module in modules.items():
        for leaf, p in module.named_parameters(recurse=False, remove_duplicate=False):
            role = _of_module(path, leaf, p, module, modules)
            if role.kind == "matrix" and p in outputs:
                role = replace(role, kind="head", why=outputs[p])
            if p not in found or (role.kind == "embedding" and found[p].kind != "embedding"):
                tied = p in found
                found[p] = replace(role, name=found[p].name, why=f"{role.why}, tied") if tied else role
    return {p: found[p] for p in model.parameters()}


def roles_by_name(named: Iterable[tuple[str, Tensor]]) -> dict[Tensor, Role]:
    """Return what parameters are as far as names and shapes tell, such as those of ``model.named_parameters()``.

    Weights stored ``[in, out]`` are told by their bias, which is then as long as their last side. Three and more
    dimensions are convolution kernels where the name is that of a module's weight, stacks of matrices elsewhere.
    """
    plain = [(plain_name(name), p) for name, p in named]
    shapes = {name: tuple(p.shape) for name, p in plain}
    paths = [name.rpartition(".")[0] for name, p in plain if _is_weight(name.rpartition(".")[2], p)]
    heads = _named_outputs(paths)
    found: dict[Tensor, Role] = {}
    for name, p in plain:
        path, _, leaf = name.rpartition(".")
        role = _of_name(name, p, shapes)
        if role.kind == "matrix" and path in heads and _is_weight(leaf, p):
            role = replace(role, kind="head", why="its name")
        found.setdefault(p, role)
    return found


def role_by_shape(p: Tensor) -> Role:
    """Return what a bare tensor is as far as its shape tells: an embedding or an output layer can't be told.

    Three dimensions are a stack of matrices unless the last is small, as a kernel's; four and more are a convolution
    kernel unless all but the first two are long and differ.
    """
    shape = tuple(p.shape)
    if len(shape) < 2:
        return Role("", "scalar" if not shape else "gain", f"{len(shape)} dimensions")
    if len(shape) == 2:
        return Role("", "matrix", "two dimensions")
    return _of_many_dimensions("", shape, _like_kernel(shape), "")


# what modules say


_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.PReLU,
)
_DENSE = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)


def _of_module(path: str, leaf: str, p: Tensor, module: nn.Module, modules: Mapping[str, nn.Module]) -> Role:
    name = plain_name(f"{path}.{leaf}" if path else leaf)
    if isinstance(module, ParametrizationList):  # torch.nn.utils.parametrize: the weight of the module above
        owner, _, leaf_of_owner = path.rpartition(".parametrizations.")
        if leaf == "original0":
            return Role(name, "gain", "length of a normalised weight")
        of_owner = _of_module(owner, leaf_of_owner, p, modules[owner], modules)
        return replace(of_owner, name=name)
    if leaf == "weight_g":
        return Role(name, "gain", "length of a normalised weight")
    kind = _class_word(module)
    many = p.ndim >= 2
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) or (many and leaf == "weight" and "Embedding" in kind):
        return Role(name, "embedding", f"table of {_a(kind)}")
    if _names_bias(leaf, p):
        return Role(name, "bias", f"bias of {_a(kind)}")
    weight = leaf.startswith("weight") or leaf.endswith("_weight")
    if isinstance(module, _NORMS) or (re.search(r"norm(\d?d)?$", kind.lower()) and (weight or _is_vector(p))):
        return Role(name, "gain", f"gain of {_a(kind)}")
    if many and isinstance(module, nn.modules.conv._ConvNd):
        if module.groups > 1 and p.shape[1] == 1:
            return Role(name, "depthwise", f"kernel of a depthwise {kind}")
        turned = isinstance(module, nn.modules.conv._ConvTransposeNd)
        return Role(name, "matrix", f"kernel of {_a(kind)}", transposed=turned)
    if many and weight and isinstance(module, _DENSE):
        return Role(name, "matrix", f"weight of {_a(kind)}")
    if many and weight and _is_conv1d(module):
        return Role(name, "matrix", "weight of a Conv1D, stored [in, out]", transposed=True)
    siblings = {leaf: tuple(q.shape) for leaf, q in module.named_parameters(recurse=False, remove_duplicate=False)}
    turned = getattr(module, "is_transposed", False) is True or _turned(leaf, tuple(p.shape), siblings)
    return _of_raw(name, kind, p, turned)


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is Hugging Face's linear layer whose weight is stored ``[in, out]``, or derived from it."""
    return any(c.__name__ == "Conv1D" for c in type(module).__mro__) and hasattr(module, "nf")


def _class_word(module: nn.Module) -> str:
    """Return the name of a module's class, as it was before FSDP2 or a parametrization replaced it."""
    name = type(module).__name__
    return name.removeprefix("FSDP") or name if name != "FSDPModule" else name


def _a(word: str) -> str:
    return f"{'an' if word[:1] in 'AEIOULMRN' and (word[:1] in 'AEIOU' or word[1:2].isupper()) else 'a'} {word}"


# what names say

_BIAS = re.compile(r"bias(es)?\d*$|(^|_)bias(_|$)|^b\d+$|^b_|^beta$", re.IGNORECASE)
_GAIN = re.compile(
    r"gamma|gain|(^|_)scales?(_|$)|layer_?scale|^ls\d*$|temperature|(^|_)alpha|^beta|a_log|(^|_)dt(_|$)|decay|_mix|mix_",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"token|(^|_)pos(_|$|ition|emb|enc)|(^|_)(cls|class_emb\w*)(_|$)|regist|prompt|latent|(^|_)queries|query_emb|(^|_)rel_"
    r"|relative|table|mask_emb|memory",
    re.IGNORECASE,
)
_TABLE = re.compile(r"emb(ed(ding|dings|s)?)?(_|$|\d)|^w[tp]e$|(^|_)tok(_|$)|^shared$", re.IGNORECASE)
_EXPERT = re.compile(r"expert|(^|[._])moe|mlp|ffn|gate_up|(up|down|gate)_proj|^w\d$|\.w\d$", re.IGNORECASE)
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


def _of_name(name: str, p: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> Role:
    path, _, leaf = name.rpartition(".")
    shape = tuple(p.shape)
    owner = next((part for part in reversed(path.split(".")) if not part.isdigit()), "")
    leaf = {"original0": "weight_g", "original1": "weight", "original": "weight"}.get(leaf, leaf)
    path = path.partition(".parametrizations.")[0]
    if leaf == "weight_g" or (leaf == "weight" and (len(shape) < 2 or re.search(r"norm|(^|_)ln(_|\d|$)", owner))):
        return Role(name, "gain" if shape else "scalar", "its name")
    if leaf in ("weight", "weight_v", "weight_orig") and path:
        if len(shape) > 2:
            return _of_many_dimensions(name, shape, "expert" not in name or "conv" in owner, "")
        if _TABLE.search(owner) or "relative" in owner:
            return Role(name, "embedding", "its name")
        if _turned(f"{path}.{leaf}", shape, shapes):
            return Role(name, "matrix", "its name, and stored [in, out] by its bias", transposed=True)
        return Role(name, "matrix", "its name and shape")
    return _of_raw(name, "", p, _turned(name, shape, shapes))


def _turned(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the bias beside a weight ``[..., a, b]`` is ``[..., b]``, so that the weight is stored ``[in, out]``."""
    path, dot, leaf = name.rpartition(".")
    if len(shape) < 2 or shape[-1] == shape[-2]:
        return False
    biases = (f"{leaf}_bias", leaf.replace("weight", "bias"), re.sub("^[wW]", "b", leaf))
    return any(b != leaf and shapes.get(f"{path}{dot}{b}") == (*shape[:-2], shape[-1]) for b in biases)


def _of_raw(name: str, class_word: str, p: Tensor, turned: bool) -> Role:
    """Return what a parameter of a module of unknown type is, from its name and shape; turned is stored [in, out]."""
    parts = [part for part in name.split(".") if not part.isdigit() and part != "default"]
    word = parts[-1] if parts else ""
    shape = tuple(p.shape)
    where = f" in {_a(class_word)}" if class_word else ""
    why = f"its name{where}"
    if _names_bias(word, p):
        return Role(name, "bias", why)
    if p.numel() == 1 and len(shape) < 2:
        return Role(name, "scalar", f"one number{where}")
    if "lora_embedding_" in name:
        return Role(name, "embedding" if "lora_embedding_A" in name else "matrix", why)
    if len(shape) > 1 and _TOKEN.search(word):
        return Role(name, "token", why)
    if len(shape) < 2 or _GAIN.search(word):
        return Role(name, "gain", f"one dimension{where}" if len(shape) < 2 else why)
    if _is_vector(p):
        return Role(name, "gain" if len(shape) == 2 else "token", f"a single row{where}")
    if len(shape) == 2:
        if re.search(r"unembed", class_word + word, re.IGNORECASE):
            return Role(name, "head", why)
        if _TABLE.search(word) or re.search(r"embed", class_word, re.IGNORECASE):
            return Role(name, "embedding", why)
        return Role(name, "matrix", f"two dimensions{where}", transposed=turned)
    role = _of_many_dimensions(name, shape, bool(re.search(r"conv|kernel", class_word + word, re.IGNORECASE)), where)
    return replace(role, transposed=turned and role.stacked)


def _of_many_dimensions(name: str, shape: tuple[int, ...], kernel: bool, where: str) -> Role:
    """Return what three or more dimensions are: a kernel ``[out, in, *size]``, a stack of matrices or tokens."""
    if math.prod(shape) == 0:
        return Role(name, "matrix", "no elements")
    if shape[1:2] == (1,) and shape[0] > 1:
        return Role(name, "depthwise", "a kernel with one input channel")
    if kernel:
        return Role(name, "matrix", f"a convolution kernel, {len(shape)} dimensions")
    if min(shape[-2:]) == 1 or (math.prod(shape[:-2]) == 1 and not _EXPERT.search(name)):
        return Role(name, "token", "leading sides of one")
    return Role(name, "matrix", f"a stack of {math.prod(shape[:-2])} matrices{where}", stacked=True)


def _names_bias(word: str, p: Tensor) -> bool:
    short = p.ndim < 2 or not re.fullmatch(r"beta|b_\w", word)
    return short and bool(_BIAS.search(word)) and not _TOKEN.search(word)


def _is_vector(p: Tensor) -> bool:
    return p.numel() == max(p.shape, default=1)


def _like_kernel(shape: Sequence[int]) -> bool:
    """Whether the sides are more likely those of a kernel ``[out, in, *size]`` than of a stack of matrices."""
    if len(shape) == 3:
        return shape[-1] <= 7 and min(shape[:-1]) >= 16
    return max(shape[2:]) <= 16 or len(set(shape[2:])) == 1


def _is_weight(leaf: str, p: Tensor) -> bool:
    return p.ndim >= 2 and leaf in ("weight", "weight_v", "weight_orig", "original", "original1")


# which layer is the output


def _outputs(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[Tensor, str]:
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
    layers = (*_DENSE[:2], nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag)
    for path, module in modules.items():
        inner = path.partition(".parametrizations.")[0]
        if isinstance(modules[inner], layers) or _is_conv1d(modules[inner]):
            for leaf, p in module.named_parameters(recurse=False, remove_duplicate=False):
                if _is_weight(leaf, p) and "lora_" not in path:
                    holders.append((plain_name(inner), p))
    named = _named_outputs([path for path, _ in holders])
    found |= {
        weight: "the output layer by its name" for path, weight in holders if path in named and weight not in found
    }
    if not found and holders:
        last = _last(holders, modules)
        return {} if last is None else {last: "the last layer"}
    raw = [p for module in modules.values() for p in module.parameters(recurse=False) if p.ndim == 2]
    return {raw[-1]: "the last weight"} if not found and raw else found


def _named_outputs(paths: Sequence[str]) -> set[str]:
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
