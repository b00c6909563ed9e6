"""What one step must do, written for clarity: float64, one parameter at a time, from nothing but what a user can see.

What the user can see is all that counts: the parameters' numbers, their gradients, ``param_groups`` and ``state``. So
whatever was done to an optimizer before, the step that follows can be foretold from these, and so can every refusal.
The formulas are those of the papers; the rest is what torch.optim does: parameters without a gradient are left alone,
every parameter counts its own steps, a group's settings are those of the moment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)


@dataclass
class Entry:
    """One parameter that has a gradient.

    Attributes:
        theta, g: its numbers and its gradient's, float64.
        state: what is kept for it, float64, without the count.
        count: of the step to be taken, from 1; None where no count is kept.
        settings: of its group.
    """

    p: Tensor
    theta: Tensor
    g: Tensor
    state: dict[str, Tensor]
    count: int | None
    settings: Mapping[str, Any]

    @property
    def lr(self) -> float:
        return float(self.settings["lr"])

    def kept(self, slot: str) -> Tensor:
        return self.state.get(slot, torch.zeros_like(self.theta))


@dataclass
class Move:
    """What a step does to one parameter: what is added to it, the new state, and how far rounding may take it.

    Attributes:
        unsure: the method branches here on something that rounding decides.
        eps: of the arithmetic, where it is not that of the parameter's own dtype.
    """

    u: Tensor
    state: dict[str, Tensor]
    size: Tensor
    unsure: bool = False
    eps: float = 0.0


@dataclass
class Refused:
    """The step must be refused, with nothing changed.

    Attributes:
        because: one of `sparse`, `overlap`, `gradient`, `state`.
        p: the parameter that is to be named.
    """

    because: str
    p: Tensor


@dataclass
class Stepped:
    """Where everything must be after the step.

    Attributes:
        values: of every parameter that moves, and how far off it may be.
        state: of every parameter that moves, by slot, and how far off it may be; with "step" if the method counts.
    """

    values: dict[Tensor, tuple[Tensor, Tensor]] = field(default_factory=dict)
    state: dict[Tensor, dict[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)


Rule = Callable[[Sequence[Entry]], list[Move]]


@dataclass(frozen=True)
class Method:
    """A method in plain formulas.

    Attributes:
        rule: from all parameters that step, of all groups, to where each goes.
        slots: names of the state shaped like the parameter that the method keeps with these settings.
        counts: whether ``state[p]["step"]`` holds the number of steps.
        numbers: names of state that is one number.
    """

    rule: Rule
    slots: Callable[[Mapping[str, Any], Tensor], tuple[str, ...]]
    counts: bool = True
    numbers: tuple[str, ...] = ()


def each(one: Callable[[Entry], Move]) -> Rule:
    """Return the rule of a method that looks at one parameter at a time."""
    return lambda entries: [one(e) for e in entries]


def adamw(e: Entry) -> Move:
    (b1, b2), eps = e.settings["betas"], e.settings["eps"]
    m = b1 * e.kept("exp_avg") + (1 - b1) * e.g
    v = b2 * e.kept("exp_avg_sq") + (1 - b2) * e.g**2
    direction = m / (1 - b1**e.count) / ((v / (1 - b2**e.count)).sqrt() + eps)
    return _moved(e, direction + e.settings["weight_decay"] * e.theta, {"exp_avg": m, "exp_avg_sq": v})


def adabelief(e: Entry) -> Move:
    (b1, b2), eps = e.settings["betas"], e.settings["eps"]
    m = b1 * e.kept("exp_avg") + (1 - b1) * e.g
    s = b2 * e.kept("exp_avg_var") + (1 - b2) * (e.g - m) ** 2 + eps
    root = (s / (1 - b2**e.count)).sqrt() + eps
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * e.count * b2**e.count / (1 - b2**e.count)
    if not e.settings["rectify"]:
        direction = m / (1 - b1**e.count) / root
    elif length >= 5:
        factor = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        direction = factor * m / (1 - b1**e.count) * math.sqrt(1 - b2**e.count) / (s.sqrt() + eps)
    else:
        direction = m / (1 - b1**e.count)
    return _moved(e, direction + e.settings["weight_decay"] * e.theta, {"exp_avg": m, "exp_avg_var": s})


def diffgrad(e: Entry) -> Move:
    (b1, b2), eps = e.settings["betas"], e.settings["eps"]
    decay = e.settings["weight_decay"] * e.theta
    g = e.g if e.settings["decoupled"] else e.g + decay
    m = b1 * e.kept("exp_avg") + (1 - b1) * g
    v = b2 * e.kept("exp_avg_sq") + (1 - b2) * g**2
    friction = torch.sigmoid((e.kept("previous_grad") - g).abs())
    direction = math.sqrt(1 - b2**e.count) / (1 - b1**e.count) * friction * m / (v.sqrt() + eps)
    if e.settings["decoupled"]:
        direction = direction + decay
    return _moved(e, direction, {"exp_avg": m, "exp_avg_sq": v, "previous_grad": g})


def sgd(e: Entry) -> Move:
    g = e.g + e.settings["weight_decay"] * e.theta
    direction, kept = _heavy_ball(e, g, e.settings["dampening"], e.settings["nesterov"])
    return _moved(e, direction, kept)


def _heavy_ball(e: Entry, g: Tensor, dampening: float, nesterov: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return direction and buffer. As in torch, the first gradient starts the buffer undamped."""
    momentum = e.settings["momentum"]
    if not momentum:
        return g, {}
    first = "momentum_buffer" not in e.state or e.count == 1
    buffer = momentum * e.kept("momentum_buffer") + (g if first else (1 - dampening) * g)
    return (g + momentum * buffer if nesterov else buffer), {"momentum_buffer": buffer}


def sgdp(e: Entry) -> Move:
    momentum = e.settings["momentum"]
    buffer = momentum * e.kept("momentum_buffer") + (1 - e.settings["dampening"]) * e.g
    proposed = e.g + momentum * buffer if e.settings["nesterov"] else buffer
    return _projected(e, proposed, e.settings["weight_decay"] / (1 - momentum), {"momentum_buffer": buffer})


def adamp(e: Entry) -> Move:
    (b1, b2), eps = e.settings["betas"], e.settings["eps"]
    m = b1 * e.kept("exp_avg") + (1 - b1) * e.g
    v = b2 * e.kept("exp_avg_sq") + (1 - b2) * e.g**2
    ahead = b1 * m + (1 - b1) * e.g if e.settings["nesterov"] else m
    proposed = ahead / (1 - b1**e.count) / ((v / (1 - b2**e.count)).sqrt() + eps)
    return _projected(e, proposed, e.settings["weight_decay"], {"exp_avg": m, "exp_avg_sq": v})


def _projected(e: Entry, proposed: Tensor, decay: float, state: dict[str, Tensor]) -> Move:
    """Take the part along the weights out, by rows or as a whole, where gradient and weights are orthogonal."""
    if e.theta.ndim < 2 or not e.theta.numel():
        return _moved(e, proposed + decay * e.theta, state)
    eps, delta = e.settings["eps"], e.settings["delta"]
    unsure = False
    for rows in (e.theta.shape[0], 1):
        w, g, p = (t.reshape(rows, -1) for t in (e.theta, e.g, proposed))
        along = (w * g).sum(1).abs() / (w.norm(dim=1).clamp(min=eps) * g.norm(dim=1).clamp(min=eps))
        limit = delta / math.sqrt(w.shape[1])
        unsure |= bool(((along - limit).abs() <= 1e-3 * limit).any())
        if (along < limit).all():
            radial = w * ((w * p).sum(1) / (w.norm(dim=1) + eps) ** 2)[:, None]
            u = (p - radial).reshape(e.theta.shape) + e.settings["wd_ratio"] * decay * e.theta
            return _moved(e, u, state, unsure)
    return _moved(e, proposed + decay * e.theta, state, unsure)


def normalized_gd(entries: Sequence[Entry]) -> list[Move]:
    norm = math.sqrt(sum(float((e.g**2).sum()) for e in entries))
    moves = []
    for e in entries:
        direction = e.g / (norm + e.settings["eps"])
        state = {}
        if e.settings["momentum"] or e.settings["momentum of any group"]:
            direction = e.settings["momentum"] * e.kept("momentum_buffer") + direction
            state = {"momentum_buffer": direction}
        moves.append(_moved(e, direction, state))
    return _as_exact_as_the_sum(entries, moves)


def adagrad_norm(entries: Sequence[Entry]) -> list[Move]:
    """The sum is the model's: one that a parameter remembers (see `plain_settings`)."""
    if not entries:
        return []
    before = entries[0].settings["sum of the model"]
    total = before + sum(float((e.g**2).sum()) for e in entries)
    first = entries[0].settings
    root = math.sqrt(total + first["b0"] ** 2 + first["eps"])
    kept = {"squared_norms": torch.tensor(total, dtype=torch.float64)}
    return _as_exact_as_the_sum(entries, [_moved(e, e.g / root, kept) for e in entries])


def _as_exact_as_the_sum(entries: Sequence[Entry], moves: list[Move]) -> list[Move]:
    for move in moves:
        move.eps = max(e.settings["eps of any"] for e in entries)
    return moves


def muon(e: Entry) -> Move:
    """AdamW for what is no matrix; `settings` are those of the parameter's share (see `plain_settings`)."""
    if not e.settings["matrix"]:
        return adamw(e)
    momentum = e.settings["momentum"]
    buffer = momentum * e.kept("momentum_buffer") + (1 - momentum) * e.g
    ahead = (1 - momentum) * e.g + momentum * buffer if e.settings["nesterov"] else buffer
    stacked = e.settings["form"].stacked  # [..., rows, columns]; else [rows, *columns]
    x = ahead.reshape(-1, *e.theta.shape[-2:]) if stacked else ahead.flatten(1)[None]
    rows, columns = x.shape[1:]
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(e.settings["iterations"]):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    direction = math.sqrt(max(1.0, rows / columns)) * x.reshape(e.theta.shape)
    move = _moved(e, direction + e.settings["weight_decay"] * e.theta, {"momentum_buffer": buffer})
    move.size = move.size + 100 * e.lr  # five iterations amplify rounding some hundred times
    return move


def _moved(e: Entry, direction: Tensor, state: dict[str, Tensor], unsure: bool = False) -> Move:
    u = -e.lr * direction
    involved = 1 + e.g.abs() + sum((t.abs().amax() if t.numel() else 0.0) for t in e.state.values()) + e.theta.abs()
    return Move(u, state, u.abs() + e.lr * involved, unsure)


def _adam_slots(*more: str) -> Callable[[Mapping[str, Any], Tensor], tuple[str, ...]]:
    return lambda settings, p: ("exp_avg", *more)


def _momentum_slots(settings: Mapping[str, Any], p: Tensor) -> tuple[str, ...]:
    return ("momentum_buffer",) if settings["momentum"] else ()


def _momentum_slots_of_any(settings: Mapping[str, Any], p: Tensor) -> tuple[str, ...]:
    return ("momentum_buffer",) if settings["momentum of any group"] else ()


METHODS = {
    "adamw": Method(each(adamw), _adam_slots("exp_avg_sq")),
    "adabelief": Method(each(adabelief), _adam_slots("exp_avg_var")),
    "diffgrad": Method(each(diffgrad), _adam_slots("exp_avg_sq", "previous_grad")),
    "adamp": Method(each(adamp), _adam_slots("exp_avg_sq")),
    "sgd": Method(each(sgd), _momentum_slots),
    "sgdp": Method(each(sgdp), lambda settings, p: ("momentum_buffer",)),
    "normalized_gd": Method(normalized_gd, _momentum_slots_of_any),
    "adagrad_norm": Method(adagrad_norm, lambda settings, p: (), numbers=("squared_norms",)),
    "muon": Method(each(muon), lambda s, p: ("momentum_buffer",) if s["matrix"] else ("exp_avg", "exp_avg_sq")),
}
METHODS["torch_adamw"] = METHODS["adamw"]
METHODS["torch_sgd"] = Method(each(sgd), _momentum_slots, counts=False)


def state_dtype(p: Tensor) -> torch.dtype:
    """Return the dtype of a parameter's state and arithmetic: float32 for halves, else its own."""
    return torch.float32 if p.dtype in HALVES else p.dtype


def keeps_master(p: Tensor, settings: Mapping[str, Any]) -> bool:
    """Return whether a half-precision parameter has a float32 copy that is what really steps."""
    return p.dtype in HALVES and bool(settings.get("master_weights"))


def in_float64(t: Any) -> Tensor:
    return torch.as_tensor(t).detach().to(torch.float64, copy=True).contiguous().resolve_neg()


def sums_of_the_model(optimizer: Any) -> list[float]:
    """Return what parameters remember of the one sum of the model; several only where somebody changed some of them."""
    kept = [state["squared_norms"] for state in optimizer.state.values() if "squared_norms" in state]
    return sorted({float(one) for one in kept}) or [0.0]


def plain_settings(optimizer: Any, sum_of_the_model: float = 0.0) -> list[tuple[Tensor, dict[str, Any]]]:
    """Return every parameter of the groups with what applies to it."""
    found = []
    anyone = any(group.get("momentum") for group in optimizer.param_groups)
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [state["squared_norms"] for state in optimizer.state.values() if "squared_norms" in state]
    exact = all(t.dtype == torch.float64 for t in (*listed, *optimizer.state, *kept))
    coarsest = torch.finfo(torch.float64 if exact else torch.float32).eps
    model = {"momentum of any group": anyone, "sum of the model": sum_of_the_model, "eps of any": coarsest}
    for group in optimizer.param_groups:
        shares = optimizer.shares(group) if hasattr(optimizer, "shares") else [(group["params"], group)]
        for params, settings in shares:
            for p in params:
                found.append((p, {**settings, **model, "matrix": bool(settings.get("muon"))}))
    return found


def foretell(optimizer: Any, method: Method) -> list[Refused] | list[Stepped]:
    """Return the reasons for which the next step must be refused (any may be given); or what it may come to.

    There is one result, unless parameters share memory: then their order is free, and all may look before any moves.
    Where somebody made parameters remember different sums of the model, it may go on with any of them.
    """
    stepping = [(p, settings) for p, settings in plain_settings(optimizer) if p.grad is not None]
    reasons = [r for p, settings in stepping for r in _reasons(optimizer, method, p, settings)]
    if reasons:
        return reasons
    tied = [p for p, _ in stepping if sum(_same_memory(p, q) for q, _ in stepping) > 1]
    return [
        _outcome(optimizer, method, stepping, list(order), at_once)
        for one in sums_of_the_model(optimizer)
        for stepping in ([both for both in plain_settings(optimizer, one) if both[0].grad is not None],)
        for order in itertools.permutations(tied)
        for at_once in ((True, False) if tied else (True,))
    ]


def _reasons(optimizer: Any, method: Method, p: Tensor, settings: Mapping[str, Any]) -> Iterator[Refused]:
    if p.grad.layout != torch.strided:
        yield Refused("sparse", p)
        return
    if p.numel() > 1 and any(stride == 0 and length > 1 for stride, length in zip(p.stride(), p.shape, strict=True)):
        yield Refused("overlap", p)
    if p.grad.shape != p.shape:
        yield Refused("gradient", p)
    kept = optimizer.state.get(p, {})
    more = ("master_weights",) if keeps_master(p, settings) else ()
    for slot in (*method.slots(settings, p), *more):
        if isinstance(kept.get(slot), Tensor) and kept[slot].shape != p.shape:
            yield Refused("state", p)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _entry(optimizer: Any, p: Tensor, settings: Mapping[str, Any]) -> Entry:
    kept = optimizer.state.get(p, {})
    rounded = p.grad.detach().to(state_dtype(p))
    g = in_float64(rounded)
    own = {slot: in_float64(t) for slot, t in kept.items() if slot != "step" and isinstance(t, Tensor)}
    theta = in_float64(p)
    if keeps_master(p, settings) and "master_weights" in own:  # unless somebody has set the parameter since
        theta = torch.where(own["master_weights"].to(p.dtype) == p, own["master_weights"], theta)
    count = None if own and "step" not in kept else round(float(kept.get("step", 0))) + 1
    return Entry(p, theta, -g if settings["maximize"] else g, own, count, settings)


def _outcome(
    optimizer: Any,
    method: Method,
    stepping: Sequence[tuple[Tensor, Mapping[str, Any]]],
    order: Sequence[Tensor],
    at_once: bool,
) -> Stepped:
    entries = [_entry(optimizer, p, settings) for p, settings in stepping]
    moves = {e.p: (e, move) for e, move in zip(entries, method.rule(entries), strict=True)}
    done = Stepped()
    for e, move in moves.values():
        done.values[e.p] = _value(e.p, e.theta + move.u, move)
        done.state[e.p] = _state(e, move)
        if keeps_master(e.p, e.settings):
            eps = torch.finfo(torch.float32).eps
            slack = eps * (2 * e.theta.abs() + 64 * move.size)
            done.state[e.p]["master_weights"] = e.theta + move.u, slack * math.inf if move.unsure else slack
    for together in _by_memory(order):
        if len({(p.shape, p.stride(), p.data_ptr()) for p in together}) > 1:  # parts of one another: no more is said
            for p in together:
                whole = {slot: (t, torch.full_like(t, math.inf)) for slot, (t, _) in done.state[p].items()}
                done.state[p], done.values[p] = whole, (done.values[p][0], torch.full_like(done.values[p][0], math.inf))
            continue
        _go_on_the_same_memory(method, done, [moves[p] for p in together], at_once)
    return done


def _by_memory(params: Sequence[Tensor]) -> list[list[Tensor]]:
    places: dict[int, list[Tensor]] = {}
    for p in params:
        places.setdefault(p.untyped_storage().data_ptr(), []).append(p)
    return list(places.values())


def _go_on_the_same_memory(method: Method, done: Stepped, moves: list[tuple[Entry, Move]], at_once: bool) -> None:
    """Put into `done` where parameters on one memory end, each going on from where the one before left it."""
    total = moves[0][0].theta
    slack, unsure = torch.zeros_like(total), False
    for e, move in moves:
        if not at_once:
            e.theta = total
            (move,) = method.rule([e])
        total = total + move.u
        slack, unsure = slack + _value(e.p, total, move)[1], unsure or move.unsure
        done.state[e.p] = _state(e, move)
        if e.p.dtype in HALVES:  # the next one reads what was rounded
            slack = slack + 0.1 * e.lr
            read = torch.finfo(e.p.dtype).eps * (1 + e.theta.abs())
            done.state[e.p] = {slot: (wanted, off + read) for slot, (wanted, off) in done.state[e.p].items()}
        unsure |= keeps_master(e.p, e.settings)  # they fall apart where they were one
    for e, _ in moves:
        done.values[e.p] = total, torch.full_like(slack, math.inf) if unsure else slack
        if keeps_master(e.p, e.settings):
            done.state[e.p]["master_weights"] = done.values[e.p]


def _value(p: Tensor, wanted: Tensor, move: Move) -> tuple[Tensor, Tensor]:
    eps = torch.finfo(state_dtype(p)).eps
    slack = eps * 2 * wanted.abs() + max(eps, move.eps) * 64 * move.size + torch.finfo(state_dtype(p)).tiny
    if p.dtype in HALVES:  # rounded once, to the nearest
        info = torch.finfo(p.dtype)
        slack = 1.001 * slack + 0.5001 * info.eps * wanted.abs() + info.smallest_normal * info.eps
    return wanted, torch.full_like(slack, math.inf) if move.unsure else slack


def _state(e: Entry, move: Move) -> dict[str, tuple[Tensor, Tensor]]:
    eps = max(torch.finfo(state_dtype(e.p)).eps, move.eps)
    around = 1 + e.g.abs() + e.g**2 + e.theta.abs()
    found = {}
    for slot, wanted in move.state.items():
        scale = wanted.abs() + (e.kept(slot).abs() + around if wanted.shape == e.theta.shape else wanted.abs())
        found[slot] = wanted, 16 * eps * scale
    return found
