"""What names and shapes say of parameters, where no module is at hand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from sooner.kinds.layers import is_weight
from sooner.kinds.outputs import named_outputs
from sooner.kinds.role import Role, bare_name

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


def roles_by_name(named: Iterable[tuple[str, Tensor]]) -> dict[Tensor, Role]:
    """Return what parameters are as far as names and shapes tell, such as those of ``model.named_parameters()``.

    Weights stored ``[in, out]`` are told by their bias, which is then as long as their last side. Three and more
    dimensions are convolution kernels where the name is that of a module's weight, stacks of matrices elsewhere.
    """
    plain = [(bare_name(name), p) for name, p in named]
    shapes = {name: tuple(p.shape) for name, p in plain}
    paths = [name.rpartition(".")[0] for name, p in plain if is_weight(name.rpartition(".")[2], p)]
    heads = named_outputs(paths)
    found: dict[Tensor, Role] = {}
    for name, p in plain:
        path, _, leaf = name.rpartition(".")
        role = _of_name(name, p, shapes)
        if role.kind == "matrix" and path in heads and is_weight(leaf, p):
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


def with_article(word: str) -> str:
    """Return the word with "a" or "an" before it."""
    return f"{'an' if word[:1] in 'AEIOULMRN' and (word[:1] in 'AEIOU' or word[1:2].isupper()) else 'a'} {word}"


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
        if turned_by_bias(f"{path}.{leaf}", shape, shapes):
            return Role(name, "matrix", "its name, and stored [in, out] by its bias", transposed=True)
        return Role(name, "matrix", "its name and shape")
    return of_raw(name, "", p, turned_by_bias(name, shape, shapes))


def turned_by_bias(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the bias beside a weight ``[..., a, b]`` is ``[..., b]``, so that the weight is stored ``[in, out]``."""
    path, dot, leaf = name.rpartition(".")
    if len(shape) < 2 or shape[-1] == shape[-2]:
        return False
    biases = (f"{leaf}_bias", leaf.replace("weight", "bias"), re.sub("^[wW]", "b", leaf))
    return any(b != leaf and shapes.get(f"{path}{dot}{b}") == (*shape[:-2], shape[-1]) for b in biases)


def of_raw(name: str, class_word: str, p: Tensor, turned: bool) -> Role:
    """Return what a parameter of a module of unknown type is, from its name and shape; turned is stored [in, out]."""
    parts = [part for part in name.split(".") if not part.isdigit() and part != "default"]
    word = parts[-1] if parts else ""
    shape = tuple(p.shape)
    where = f" in {with_article(class_word)}" if class_word else ""
    why = f"its name{where}"
    if names_bias(word, p):
        return Role(name, "bias", why)
    if p.numel() == 1 and len(shape) < 2:
        return Role(name, "scalar", f"one number{where}")
    if "lora_embedding_" in name:
        return Role(name, "embedding" if "lora_embedding_A" in name else "matrix", why)
    if len(shape) > 1 and _TOKEN.search(word):
        return Role(name, "token", why)
    if len(shape) < 2 or _GAIN.search(word):
        return Role(name, "gain", f"one dimension{where}" if len(shape) < 2 else why)
    if is_vector(p):
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


def names_bias(word: str, p: Tensor) -> bool:
    """Whether the word is a name for what is added elementwise."""
    short = p.ndim < 2 or not re.fullmatch(r"beta|b_\w", word)
    return short and bool(_BIAS.search(word)) and not _TOKEN.search(word)


def is_vector(p: Tensor) -> bool:
    """Whether all sides but one are 1."""
    return p.numel() == max(p.shape, default=1)


def _like_kernel(shape: Sequence[int]) -> bool:
    """Whether the sides are more likely those of a kernel ``[out, in, *size]`` than of a stack of matrices."""
    if len(shape) == 3:
        return shape[-1] <= 7 and min(shape[:-1]) >= 16
    return max(shape[2:]) <= 16 or len(set(shape[2:])) == 1
