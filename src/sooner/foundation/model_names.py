"""Names of a model's parameters, the same whether the model is wrapped or not.

DistributedDataParallel, `torch.compile`, FSDP, activation checkpointing and Fabric each put a part of their own into
the names of all that they wrap (``module.``, ``_orig_mod.``, …). State files are matched without those parts, so that
what a wrapped model has saved loads into the plain one, and the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

PRIVATE = frozenset(
    {
        "_orig_mod",  # torch.compile
        "_fsdp_wrapped_module",  # FullyShardedDataParallel
        "_checkpoint_wrapped_module",  # torch.distributed's checkpoint_wrapper and offload_wrapper
        "_forward_module",  # Lightning Fabric
        "_original_module",
    }
)
WRAPPERS = PRIVATE | {"module"}
"""What wrappers put into names; ``module`` is that of DistributedDataParallel, DataParallel and DeepSpeed."""


def plain_name(name: str) -> str:
    """Return the name without the parts of wrappers: ``module.layers.0._orig_mod.weight`` is ``layers.0.weight``.

    The last part stays, whatever it is: ``module`` alone is a parameter of that name.
    """
    *path, last = name.split(".")
    return ".".join([*(part for part in path if part not in WRAPPERS), last])


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return the plain name of each name of one model.

    Where several names have the same plain one, which happens when a model calls one of its own modules ``module``,
    these keep theirs; only wrappers of the whole model are taken off them.
    """
    given = list(names)
    within = len(wrapper_prefix(given))
    plain = {name: plain_name(name) for name in given}
    count = Counter(plain.values())
    return {name: short if count[short] == 1 else name[within:] for name, short in plain.items()}


def wrapper_prefix(names: Iterable[str]) -> str:
    """Return what wrappers of the whole model have put before all of the names, such as ``module._orig_mod.``."""
    given = list(names)
    prefix = ""
    while given:
        part = given[0][len(prefix) :].partition(".")[0]
        longer = f"{prefix}{part}."
        if part not in WRAPPERS or not all(name.startswith(longer) for name in given):
            break
        prefix = longer
    return prefix


def matched(theirs: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """Return ``{ours: theirs}`` for the names that mean the same, whatever wraps either model.

    Args:
        theirs: names in a state.
        ours: names in the model.
    """
    given, wanted = dict.fromkeys(theirs), dict.fromkeys(ours)
    if given.keys() <= wanted.keys() or wanted.keys() <= given.keys():
        return {name: name for name in wanted if name in given}
    of_plain = {plain: name for name, plain in plain_names(given).items()}
    return {name: of_plain[plain] for name, plain in plain_names(wanted).items() if plain in of_plain}


def prefix_note(theirs: Iterable[str], ours: Iterable[str]) -> str:
    """Return how the names of a state begin where that may be why they differ, as the end of a sentence; or nothing."""
    given, wanted = list(theirs), list(ours)
    if known := wrapper_prefix(given):
        return f" (its names begin with the prefix {known!r} of a wrapper, which was left aside)"
    for name in wanted:
        if given and given[0].endswith(f".{name}"):
            prefix = given[0].removesuffix(name)
            if {f"{prefix}{one}" for one in wanted} >= set(given):
                return f" (its names have the prefix {prefix!r} before ours; take it off)"
    return ""


def renamed(state: Mapping[str, Any], ours: Iterable[str]) -> dict[str, Any]:
    """Return a model's state with the names that this model has for it; what it has no name for keeps its own."""
    names = {theirs: name for name, theirs in matched(state, ours).items()}
    made = {names.get(name, name): value for name, value in state.items()}
    return made if len(made) == len(state) else dict(state)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside all wrappers of the whole model; a plain model is its own."""
    while True:
        inner = [child for key, child in model._modules.items() if child is not None and _wraps(model, key)]
        if not inner:
            return model
        model = inner[0]


def modules_by_name(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield every module at every place where it stands, with what goes before the names of its own tensors.

    Yields:
        (prefix without wrappers, prefix as PyTorch has it, module), the model itself first.
    """
    return _walk(model, "", "", ())


def _walk(
    module: nn.Module, plain: str, full: str, above: tuple[nn.Module, ...]
) -> Iterator[tuple[str, str, nn.Module]]:
    yield plain, full, module
    for key, child in module._modules.items():
        if child is not None and not any(child is one for one in above):  # a module may hold the one that holds it
            inside = plain if _wraps(module, key) else f"{plain}{key}."
            yield from _walk(child, inside, f"{full}{key}.", (*above, module))


def _wraps(module: nn.Module, key: str) -> bool:
    """Whether the child `key` is what the module wraps."""
    return key in PRIVATE or (key == "module" and isinstance(module, DistributedDataParallel | DataParallel))
