"""What the modules of a model say of its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from sooner.error import SoonerError
from sooner.kinds.layers import DENSE, is_conv1d
from sooner.kinds.names import is_vector, names_bias, of_raw, turned_by_bias, with_article
from sooner.kinds.outputs import outputs
from sooner.kinds.role import Role, bare_name

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.PReLU,
)


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
    last = outputs(model, modules)
    found: dict[Tensor, Role] = {}
    for path, module in modules.items():
        for leaf, p in module.named_parameters(recurse=False, remove_duplicate=False):
            role = _of_module(path, leaf, p, module, modules)
            if role.kind == "matrix" and p in last:
                role = replace(role, kind="head", why=last[p])
            if p not in found or (role.kind == "embedding" and found[p].kind != "embedding"):
                tied = p in found
                found[p] = replace(role, name=found[p].name, why=f"{role.why}, tied") if tied else role
    return {p: found[p] for p in model.parameters()}


def _of_module(path: str, leaf: str, p: Tensor, module: nn.Module, modules: Mapping[str, nn.Module]) -> Role:
    name = bare_name(f"{path}.{leaf}" if path else leaf)
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
        return Role(name, "embedding", f"table of {with_article(kind)}")
    if names_bias(leaf, p):
        return Role(name, "bias", f"bias of {with_article(kind)}")
    weight = leaf.startswith("weight") or leaf.endswith("_weight")
    if isinstance(module, _NORMS) or (re.search(r"norm(\d?d)?$", kind.lower()) and (weight or is_vector(p))):
        return Role(name, "gain", f"gain of {with_article(kind)}")
    if many and isinstance(module, nn.modules.conv._ConvNd):
        if module.groups > 1 and p.shape[1] == 1:
            return Role(name, "depthwise", f"kernel of a depthwise {kind}")
        turned = isinstance(module, nn.modules.conv._ConvTransposeNd)
        return Role(name, "matrix", f"kernel of {with_article(kind)}", transposed=turned)
    if many and weight and isinstance(module, DENSE):
        return Role(name, "matrix", f"weight of {with_article(kind)}")
    if many and weight and is_conv1d(module):
        return Role(name, "matrix", "weight of a Conv1D, stored [in, out]", transposed=True)
    siblings = {leaf: tuple(q.shape) for leaf, q in module.named_parameters(recurse=False, remove_duplicate=False)}
    turned = getattr(module, "is_transposed", False) is True or turned_by_bias(leaf, tuple(p.shape), siblings)
    return of_raw(name, kind, p, turned)


def _class_word(module: nn.Module) -> str:
    """Return the name of a module's class, as it was before FSDP2 or a parametrization replaced it."""
    name = type(module).__name__
    return name.removeprefix("FSDP") or name if name != "FSDPModule" else name
