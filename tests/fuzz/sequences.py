"""Random sequences of what people do to an optimizer behind its back, with steps between, as a hypothesis machine.

Before every step `plain_step.foretell` says from what can be seen where everything must be afterwards, or that the step
must be refused; then the step is taken and everything that can be seen is compared. Copies and state files are checked
where they are made. Every operation is also written to the file that $SOONER_FUZZ_TRACE names, before it is done, so
that the sequence is known if the process dies (see `replay`).
"""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from plain_step import HALVES, METHODS, Refused, Stepped, foretell, in_float64, state_dtype
from torch import Tensor, nn

from sooner import part
from sooner.error import SoonerError
from sooner.execute import using

SHAPES = [(4, 5), (3, 3), (5,), (4, 5), (), (0,), (3, 3), (5, 4), (0, 3), (2, 3, 2, 2), (1, 7), (64, 33)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
RATES = [0.1, 0.03, 0.5, 0.0, 0.25]

SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 0.1, "weight_decay": 0.1},
    "adabelief": {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1, "rectify": False},
    "diffgrad": {"lr": 0.1, "weight_decay": 0.1},
    "adamp": {"lr": 0.1, "weight_decay": 0.1, "delta": 1.0},
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "sgdp": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "delta": 1.0},
    "normalized_gd": {"lr": 0.5, "momentum": 0.9},
    "adagrad_norm": {"lr": 1.0, "b0": 0.5},
    "muon": {"lr": 0.1, "weight_decay": 0.1},
    "torch_adamw": {"lr": 0.1, "weight_decay": 0.1},
    "torch_sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
}
"""What every method is made with: rates so large that no fault hides in rounding, and eps so that nothing cancels."""

EDITS: dict[str, tuple[Any, ...]] = {
    "lr": (*RATES, "tensor"),
    "betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.99)),
    "weight_decay": (0.0, 0.3),
    "momentum": (0.0, 0.9, 0.5),
    "dampening": (0.0, 0.25),
    "nesterov": (True, False),
    "rectify": (True, False),
    "decoupled": (True, False),
    "maximize": (True, False),
    "master_weights": (True, False),
}

NUMBERS = ("step", "squared_norms", "foreign")
"""State that is not shaped like its parameter."""

GRADIENTS = ("dense", "dense", "transposed", "expanded", "strided", "float32", "float64", "bfloat16", "shared", "own")
GRADIENTS += ("negated", "zero", "sparse")


SURGERY = ("delete", "clear", "zero", "zero step", "fill step", "int step", "float step", "tensor step", "long step")
SURGERY += ("clone", "strided", "double", "half", "expanded", "negated", "wrong shape", "scale", "copy dict")
SURGERY += ("foreign", "swap", "new mapping")


def operation(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of a method; what it is called with is written down first. Most times a step follows (see `then`)."""

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def traced(self: Any, then: str, **drawn: Any) -> None:
            self.write_down(function.__name__, {**drawn, "then": then})
            function(self, **drawn)
            self.then(then)

        return rule(**strategies, then=THEN)(traced)

    return decorate


THEN = st.sampled_from(["all step", "half step", "step", "steady", "nothing"])
NUMBER = st.integers(0, 7)


class Sequence(RuleBasedStateMachine):
    """One optimizer and what happens to it; subclasses say which (see `machine`)."""

    method: str
    executor: str
    steps = 0
    """Taken by all machines of this process."""
    sequences = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).sequences += 1
        self.params: list[nn.Parameter] = []
        self.aside: list[nn.Parameter] = []
        self.saved: tuple[Any, list[Any]] | None = None
        self.left_behind: list[tuple[Any, Any]] = []
        path = os.environ.get("SOONER_FUZZ_TRACE")
        self.trace = Path(path).open("w", encoding="utf-8") if path else None  # noqa: SIM115

    def write_down(self, name: str, drawn: dict[str, Any]) -> None:
        if self.trace:
            self.trace.write(json.dumps([name, drawn]) + "\n")
            self.trace.flush()

    def teardown(self) -> None:
        if self.trace:
            self.trace.close()

    # what there is

    @property
    def by_torch(self) -> bool:
        return self.method.startswith("torch_")

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @property
    def listed(self) -> list[nn.Parameter]:
        return [p for group in self.groups for p in group["params"]]

    @property
    def everything(self) -> list[nn.Parameter]:
        return [*self.listed, *self.aside]

    def pick(self, which: int) -> nn.Parameter | None:
        listed = self.listed
        return listed[which % len(listed)] if listed else None

    def make_optimizer(self, params: Any) -> torch.optim.Optimizer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Muon says once what it can't see in a bare list, when it is made or steps
            if self.by_torch:
                cls = {"torch_adamw": torch.optim.AdamW, "torch_sgd": torch.optim.SGD}[self.method]
                return cls(params, **SETTINGS[self.method])
            return part.load(self.method)(params, **SETTINGS[self.method])

    def dtype(self, number: int) -> torch.dtype:
        return DTYPES[number % (2 if self.by_torch else 4)]

    def new(self, shape: int, dtype: int, seed: int = 0) -> nn.Parameter:
        drawn = torch.randn(SHAPES[shape % len(SHAPES)], generator=torch.Generator().manual_seed(seed))
        return nn.Parameter(drawn.to(self.dtype(dtype)))

    @initialize(
        shapes=st.lists(st.integers(0, len(SHAPES) - 1), min_size=1, max_size=6),
        split=st.integers(1, 3),
        dtype=st.integers(0, 7),
        named=st.booleans(),
    )
    def start(self, **drawn: Any) -> None:
        self.write_down("start", drawn)
        self.begin(**drawn)

    def begin(self, shapes: list[int], split: int, dtype: int, named: bool) -> None:
        """Make the optimizer: groups of every `split`-th parameter; one dtype below 4, else several."""
        shapes = [0, *shapes]  # a matrix first: Muon wants one
        made = [self.new(s, dtype if dtype < 4 else i, seed=i) for i, s in enumerate(shapes)]
        label = (lambda i, p: (f"p{i}", p)) if named and not self.by_torch else (lambda i, p: p)
        entries = [label(i, p) for i, p in enumerate(made)]
        groups = [{"params": entries[k::split], "lr": RATES[k]} for k in range(min(split, len(entries)))]
        self.optimizer = self.make_optimizer(groups)

    # steps

    def give(self, p: nn.Parameter, kind: str, seed: int) -> None:
        g = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)
        g = (g * (1 + seed)).to(p.dtype)
        p.grad = None
        p.grad_dtype = p.dtype  # as it would be, had the parameter always been of this dtype
        if kind in ("float32", "float64", "bfloat16"):
            if not self.by_torch:
                p.grad_dtype = getattr(torch, kind)
                g = g.to(getattr(torch, kind))
        elif kind == "transposed" and p.ndim >= 2:
            g = g.mT.contiguous().mT
        elif kind == "expanded":
            g = g.flatten()[:1].sum().expand(p.shape)
        elif kind == "strided":
            g = torch.stack([g, -g], -1)[..., 0]
        elif kind == "own" and not self.by_torch:
            g = p.detach()
        elif kind == "negated":
            g = torch._neg_view(g)
        elif kind == "zero":
            g = torch.zeros_like(g)
        elif kind == "sparse" and p.ndim == 2 and not self.by_torch:
            g = g.to_sparse()
        p.grad = g

    @operation(present=st.integers(0, 255), kind=st.sampled_from(GRADIENTS), seed=NUMBER)
    def step(self, present: int, kind: str, seed: int) -> None:
        """Give those of `present` new gradients, and the others none; then step."""
        shared: dict[Any, Tensor] = {}
        for i, p in enumerate(self.listed):
            p.grad = None
            if present >> i % 8 & 1:
                self.give(p, kind, seed + i)
                if kind == "shared":
                    p.grad = shared.setdefault((tuple(p.shape), p.dtype), p.grad)
        self.take_step()

    def then(self, what: str) -> None:
        """Step with new gradients for all or every second parameter, with those that are left, or not at all.

        After "steady", four steps with gradients for all, executors go by what they remember.
        """
        if what == "steady":
            for _ in range(4):
                self.then("all step")
        if what in ("steady", "nothing"):
            return
        for i, p in enumerate(self.listed):
            if what == "half step" and i % 2:
                p.grad = None
            elif what != "step":
                self.give(p, "dense", i)
        self.take_step()

    def take_step(self) -> None:
        type(self).steps += 1
        foretold = foretell(self.optimizer, METHODS[self.method])
        before = self.seen()
        versions = {p: p._version for p in self.listed}
        places = {p: (p.data_ptr(), p.stride(), p.dtype) for p in self.listed}
        gradients = [(p.grad, p.grad.clone()) for p in self.listed if p.grad is not None]
        try:
            with using("auto" if self.by_torch else self.executor), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.optimizer.step()
        except (SoonerError, RuntimeError) as error:
            if not foretold or isinstance(foretold[0], Stepped):
                raise AssertionError(f"the step was refused, for no reason: {error}") from error
            self.check_refusal(error, foretold)
            self.check_same(before, self.seen(), "a refused step", begun=False)
        else:
            assert not isinstance(foretold[0], Refused), (
                f"the step should have been refused: {[(r.because, tuple(r.p.shape), r.p.dtype) for r in foretold]}"
            )
            self.check_outcome(foretold, before)
            for p in filter(Tensor.numel, foretold[0].values):
                assert p._version > versions[p], "autograd was not told that a parameter was written to"
        for p, place in places.items():
            assert place == (p.data_ptr(), p.stride(), p.dtype), "the step moved a parameter's memory"
        moved = {p.untyped_storage().data_ptr() for p in self.listed}
        for g, was in gradients:
            if g.layout != torch.strided or g.untyped_storage().data_ptr() not in moved:
                assert _same(g, was), "the step wrote to a gradient"
        for tensor, was in self.left_behind:
            assert _same(tensor, was), "the step changed something that was copied before"

    def check_refusal(self, error: Exception, reasons: list[Refused]) -> None:
        if {r.because for r in reasons} == {"overlap"}:
            return  # torch has an error of its own for writing to expanded tensors
        assert isinstance(error, SoonerError), f"refused by a raw error: {type(error).__name__}: {error}"
        sentence = str(error)
        numbers = [str(tuple(r.p.shape)) for r in reasons]
        named = any(n in sentence for n in numbers) or "sparse" in sentence or re.search(r"\bp\d+\b", sentence)
        assert named, f"the refusal names no parameter, neither by name nor by shape {numbers}: {sentence}"
        assert "\n" not in sentence, f"the refusal is more than a sentence: {sentence}"

    def check_outcome(self, foretold: list[Stepped], before: Any) -> None:
        problems = [self.compare(one) for one in foretold]
        assert not all(problems), min((p for p in problems if p), key=len)
        moved = set(foretold[0].values)
        for p in moved:  # what the step does not work on stays
            left = {k: v for k, v in before[p][1].items() if k != "step" and k not in foretold[0].state[p]}
            self.check_kept(left, {k: v for k, v in self.seen_of(p)[1].items() if k in left}, "a step")
        for p, (was, kept) in before.items():
            if p not in moved and not any(_overlap(p, q) for q in moved):
                now = self.seen_of(p)
                assert _same(was, now[0]), f"a parameter without gradient moved: {tuple(p.shape)}"
                shared = METHODS[self.method].numbers  # of the model: everybody shows the same
                was, now = ({k: v for k, v in some.items() if k not in shared} for some in (kept, now[1]))
                self.check_kept(was, now, "a step without gradient")

    def compare(self, foretold: Stepped) -> str:
        """Return what is wrong, nothing if all is right."""
        for p, (wanted, slack) in foretold.values.items():
            if wrong := _off(in_float64(p), wanted, slack):
                return f"parameter {tuple(p.shape)} {p.dtype}: {wrong}"
        for p, slots in foretold.state.items():
            kept = self.optimizer.state.get(p, {})
            for slot, (wanted, slack) in slots.items():
                if slot not in kept:
                    return f"state of {tuple(p.shape)} lacks {slot}"
                if wrong := _off(in_float64(kept[slot]), wanted, slack):
                    return f"{slot} of {tuple(p.shape)} {p.dtype}: {wrong}"
                if wanted.shape == p.shape and wanted.ndim and kept[slot].dtype != state_dtype(p):
                    return f"{slot} of {tuple(p.shape)} {p.dtype} is {kept[slot].dtype}"
            if METHODS[self.method].counts:
                count = self.counts[p] + 1
                if float(kept["step"]) != count:
                    return f"step of {tuple(p.shape)} is {float(kept['step'])}, it should be {count}"
        return ""

    # what can be seen

    def seen_of(self, p: Tensor) -> tuple[Tensor, dict[str, Any]]:
        kept = self.optimizer.state.get(p, {})
        return p.detach().clone(), {k: v.clone() if isinstance(v, Tensor) else v for k, v in kept.items()}

    def seen(self) -> dict[Tensor, tuple[Tensor, dict[str, Any]]]:
        self.counts = {p: float(self.optimizer.state.get(p, {}).get("step", 0)) for p in self.everything}
        return {p: self.seen_of(p) for p in self.everything}

    def check_same(self, before: Any, after: Any, what: str, *, begun: bool = True) -> None:
        """Unless `begun`, state may have been made that holds nothing yet."""
        for (was, kept), (now, keeps) in zip(before.values(), after.values(), strict=True):
            assert _same(was, now), f"{what} changed a parameter of shape {tuple(was.shape)}"
            if not begun:
                known = ("master_weights", *METHODS[self.method].numbers)
                new = [k for k in keeps if k not in kept and (k in known or not keeps[k].any())]
                keeps = {k: v for k, v in keeps.items() if k not in new}
            self.check_kept(kept, keeps, what)

    def check_kept(self, was: dict[str, Any], now: dict[str, Any], what: str) -> None:
        assert set(was) == set(now), f"{what} changed which state there is: {set(was)} became {set(now)}"
        for slot, value in was.items():
            if isinstance(value, Tensor | int | float):
                a, b = in_float64(value), in_float64(now[slot])
                assert torch.equal(a, b) or torch.equal(a.isnan(), b.isnan()), f"{what} changed {slot}"

    # groups

    @operation(shape=st.integers(0, 11), dtype=NUMBER, lr=st.sampled_from(RATES))
    def add_group(self, shape: int, dtype: int, lr: float) -> None:
        if len(self.listed) < 10:
            p = self.new(shape, dtype)
            named = any("param_names" in group for group in self.groups)
            entry = (f"q{len(self.everything)}_{id(p)}", p) if named else p
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.optimizer.add_param_group({"params": [entry], "lr": lr})

    @operation(which=NUMBER)
    def drop_group(self, which: int) -> None:
        if len(self.groups) > 1 or (self.groups and which == 7):  # seldom the last one
            self.aside += self.groups[which % len(self.groups)]["params"]
            del self.groups[which % len(self.groups)]

    @operation(how=st.sampled_from(["reverse", "rotate", "copy dicts", "copy lists", "new list"]))
    def rearrange_groups(self, how: str) -> None:
        if how == "reverse":
            self.groups.reverse()
        elif how == "rotate":
            self.groups.append(self.groups.pop(0)) if self.groups else None
        elif how == "copy dicts":
            self.groups[:] = [dict(group) for group in self.groups]
        elif how == "copy lists":
            for group in self.groups:
                group["params"] = list(group["params"])
        else:
            self.optimizer.param_groups = list(self.groups)

    @operation(which=NUMBER, to=NUMBER)
    def move(self, which: int, to: int) -> None:
        """Move a parameter to the end of a group, which may be its own."""
        if (p := self.pick(which)) is not None:
            self.take_out(p)
            self.put_in(p, to)

    @operation(which=NUMBER)
    def set_aside(self, which: int) -> None:
        if (p := self.pick(which)) is not None:
            self.take_out(p)
            self.aside.append(p)

    @operation(which=NUMBER, to=NUMBER)
    def put_back(self, which: int, to: int) -> None:
        if self.aside and self.groups:
            self.put_in(self.aside.pop(which % len(self.aside)), to)

    @operation(which=NUMBER)
    def turn_list(self, which: int) -> None:
        if self.groups:
            self.groups[which % len(self.groups)]["params"].reverse()

    @operation(which=NUMBER, to=NUMBER)
    def list_twice(self, which: int, to: int) -> None:
        """A parameter that is listed twice is refused, as at the beginning."""
        if (p := self.pick(which)) is None or self.by_torch:
            return
        group = self.groups[to % len(self.groups)]
        group["params"].append(p)
        self.give(p, "dense", 0)
        before = self.seen()
        try:
            with using(self.executor):
                self.optimizer.step()
        except SoonerError:
            self.check_same(before, self.seen(), "a refused step", begun=False)
        else:
            raise AssertionError("a parameter that is listed twice was stepped")
        group["params"].pop()

    def take_out(self, p: nn.Parameter) -> None:
        for group in self.groups:
            group["params"][:] = [q for q in group["params"] if q is not p]

    def put_in(self, p: nn.Parameter, to: int) -> None:
        self.groups[to % len(self.groups)]["params"].append(p)

    @operation(
        which=NUMBER, shape=st.integers(0, 11), dtype=NUMBER, state=st.sampled_from(["none", "moved", "resized"])
    )
    def replace(self, which: int, shape: int, dtype: int, state: str) -> None:
        """Put another parameter in the place of one, as code does that grows an embedding or splits splats."""
        if (p := self.pick(which)) is None:
            return
        if self.by_torch and state == "resized" and not p.ndim:
            return
        if state == "resized" and p.ndim:
            q = nn.Parameter(torch.cat([p.detach(), torch.ones_like(p[:2])]))
        elif state == "moved":
            q = nn.Parameter(p.detach().clone())
        else:
            q = self.new(shape, dtype)
        for group in self.groups:
            group["params"][:] = [q if one is p else one for one in group["params"]]
        if state != "none" and p in self.optimizer.state:
            kept = self.optimizer.state[q] = self.optimizer.state.pop(p)
            for slot, t in kept.items():
                if isinstance(t, Tensor) and t.ndim and t.shape == p.shape != q.shape:
                    kept[slot] = torch.cat([t, torch.zeros_like(t[: q.shape[0] - p.shape[0]])])

    @operation(which=NUMBER, what=st.sampled_from(sorted(EDITS)), to=NUMBER, everywhere=st.booleans())
    def set(self, which: int, what: str, to: int, everywhere: bool) -> None:
        for i, group in enumerate(self.groups):
            if what not in group or not (everywhere or i == which % len(self.groups)):
                continue
            value = EDITS[what][to % len(EDITS[what])]
            if what == "nesterov" and self.method == "sgd" and not group["momentum"]:
                value = False
            if value == "tensor":
                value = torch.tensor(0.125, dtype=torch.float64 if self.by_torch else torch.float32)
            group[what] = value

    # parameters

    @operation(which=NUMBER, dtype=NUMBER, others=st.booleans(), keep=st.booleans())
    def cast(self, which: int, dtype: int, others: bool, keep: bool) -> None:
        """Cast one parameter, or all behind it as well."""
        for p in self.listed[which % max(1, len(self.listed)) :][: None if others else 1]:
            if not self.by_torch:
                p.data = p.data.to(DTYPES[dtype % 4])
                self.after_assignment(p, keep)

    @operation(which=NUMBER, how=st.sampled_from(["view", "clone", "grow", "flat", "empty"]), keep=st.booleans())
    def resize(self, which: int, how: str, keep: bool) -> None:
        if (p := self.pick(which)) is None or self.by_torch:
            return
        rows = p.data if p.ndim else p.data[None]
        k = max(1, rows.shape[0] // 2)
        kinds = {
            "view": lambda: rows[:k],
            "clone": lambda: rows[:k].clone(),
            "grow": lambda: torch.cat([rows, torch.zeros_like(rows[:1])]),
            "flat": lambda: rows.flatten(),
            "empty": lambda: rows[:0].clone(),
        }
        p.data = kinds[how]()
        self.after_assignment(p, keep)

    @operation(
        which=NUMBER,
        how=st.sampled_from(["transpose", "channels last", "strided", "offset", "expand", "fresh", "tie"]),
        keep=st.booleans(),
    )
    def lay_out(self, which: int, how: str, keep: bool) -> None:
        """The same shape and numbers, elsewhere in memory."""
        if (p := self.pick(which)) is None:
            return
        old = p.data
        if how == "transpose" and p.ndim >= 2:
            p.data = old.mT.contiguous().mT
        elif how == "channels last" and p.ndim == 4:
            p.data = old.contiguous(memory_format=torch.channels_last)
        elif how in ("strided", "transpose", "channels last"):
            p.data = torch.stack([old, torch.full_like(old, 7.0)], -1)[..., 0]
        elif how == "offset":
            p.data = torch.cat([old.new_full((3,), 7.0), old.flatten(), old.new_full((3,), 7.0)])[3:-3].view(old.shape)
        elif how == "expand" and not self.by_torch:
            p.data = old.flatten()[:1].sum().expand(old.shape)
        elif how == "fresh":
            p.data = old.contiguous().clone()
        elif how == "tie":
            same = [q for q in self.listed if q is not p and q.shape == p.shape and q.dtype == p.dtype]
            if same and len([q for q in self.listed if _overlap(q, same[0])]) < 3:
                p.data = same[0].data
        self.after_assignment(p, keep)

    lay_out_also = lay_out  # twice as often as other things
    cast_also = cast

    @operation(which=NUMBER, keep=st.booleans())
    def freeze(self, which: int, keep: bool) -> None:
        if (p := self.pick(which)) is not None:
            p.requires_grad_(not p.requires_grad)
            self.after_assignment(p, keep)

    def after_assignment(self, p: nn.Parameter, keep: bool) -> None:
        if not keep:
            p.grad = None

    # state

    @operation(
        which=NUMBER,
        how=st.sampled_from(SURGERY),
        slot=NUMBER,
    )
    def operate(self, which: int, how: str, slot: int) -> None:
        """Change the state by hand."""
        state = self.optimizer.state
        if (p := self.pick(which)) is None or not state.get(p):
            return
        if self.by_torch and how in (
            "int step",
            "float step",
            "long step",
            "double",
            "half",
            "expanded",
            "wrong shape",
        ):
            return
        kept, before = state[p], self.seen()
        slots = sorted(k for k in kept if k not in ("step", "foreign") and isinstance(kept[k], Tensor))
        steps = {"zero step": 0.0, "fill step": 3.0, "int step": 3, "float step": 2.0}
        steps |= {"tensor step": torch.tensor(5.0), "long step": torch.tensor(4)}
        tensors = {
            "clone": lambda t: t.clone(),
            "strided": lambda t: torch.stack([t, t + 1], -1)[..., 0],
            "double": lambda t: t.double(),
            "half": lambda t: t.bfloat16(),
            "expanded": lambda t: t.flatten()[:1].sum().abs().expand(t.shape),
            "negated": lambda t: torch._neg_view(-t),
            "wrong shape": lambda t: torch.zeros(11),
            "scale": lambda t: t.mul_(0.5),
        }
        others = {q for q in before if q is not p}
        if how == "delete":
            del state[p]
        elif how == "clear":
            state.clear()
            others.clear()
        elif how == "zero":
            for value in kept.values():
                if isinstance(value, Tensor):
                    value.zero_()
        elif how in steps and "step" in kept:
            if how in ("zero step", "fill step") and isinstance(kept["step"], Tensor):
                kept["step"].fill_(steps[how])
            else:
                kept["step"] = steps[how]
        elif how in tensors and slots:
            chosen = slots[slot % len(slots)]
            if how == "wrong shape" and kept[chosen].shape != p.shape:
                return
            kept[chosen] = tensors[how](kept[chosen])
        elif how == "copy dict":
            state[p] = dict(kept)
        elif how == "foreign":
            kept["foreign"] = torch.ones(2)
        elif how == "swap":
            q = self.pick(slot)
            if q in state and q.shape == p.shape and (q.dtype == p.dtype or not self.by_torch):
                state[p], state[q] = state[q], state[p]
                others.discard(q)
        elif how == "new mapping":
            self.optimizer.state = type(state)(dict, state)
        after = self.seen()
        for q in others - self.of_the_model(how):
            self.check_kept(before[q][1], after[q][1], f"changing one parameter's state ({how}) also")

    def of_the_model(self, how: str) -> set[Tensor]:
        """Return whose state may change with another's: one sum of the model is the same number for all."""
        shared = METHODS[self.method].numbers and how in ("zero", "scale")
        return set(self.everything) if shared else set()

    # copies and files

    @operation(how=st.sampled_from(["together", "pickle", "alone"]))
    def copy(self, how: str) -> None:
        """Go on with a copy; what was copied must stay as it is."""
        before = self.seen()
        self.left_behind = [
            (t, t.clone())
            for p in self.everything
            for t in (p.detach(), *self.optimizer.state.get(p, {}).values())
            if isinstance(t, Tensor)
        ][:40]
        if how == "pickle":
            aside, optimizer = pickle.loads(pickle.dumps((self.aside, self.optimizer)))
        elif how == "alone":
            aside, optimizer = [], copy.deepcopy(self.optimizer)
        else:
            aside, optimizer = copy.deepcopy((self.aside, self.optimizer))
        before = {p: kept for p, kept in before.items() if how != "alone" or any(p is q for q in self.listed)}
        self.aside, self.optimizer = aside, optimizer
        self.check_same(before, self.seen(), "copying")

    @operation(how=st.sampled_from(["memory", "file"]))
    def save(self, how: str) -> None:
        if self.by_torch and set(self.optimizer.state) - set(self.listed):
            return  # torch can't save the state of parameters that are in no group any more
        before = self.seen()
        content = self.optimizer.state_dict()
        if how == "file":
            file = io.BytesIO()
            torch.save(content, file)
            file.seek(0)
            content = torch.load(file)
        else:
            content = copy.deepcopy(content)
        kept = [[(tuple(p.shape), p.dtype, self.seen_of(p)[1]) for p in group["params"]] for group in self.groups]
        self.saved = content, kept
        self.check_same(before, self.seen(), "saving")

    @precondition(lambda self: self.saved is not None)
    @operation()
    def load(self) -> None:
        """Load what was saved earlier, which fits or not."""
        if self.saved is None or self.by_torch or not all(self.saved[1]):
            return
        content, kept = self.saved
        if any("foreign" in one[2] for group in kept for one in group):
            return
        if any("param_names" in group for group in content["param_groups"]):
            return  # matched by name: see tests/update
        before = self.seen()
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        fits = [len(group) for group in kept] == [len(group["params"]) for group in self.groups] and all(
            tensor.shape == p.shape
            for ours, group in zip(kept, self.groups, strict=True)
            for (_, _, state), p in zip(ours, group["params"], strict=True)
            for name, tensor in state.items()
            if name not in NUMBERS
        )
        try:
            self.optimizer.load_state_dict(content)
        except SoonerError:
            assert not fits or self.odd_state(kept), "own state was refused"
            self.check_same(before, self.seen(), "a refused state")
            now = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
            assert now == settings, "a refused state changed settings"
            return
        assert fits, "a state was loaded that does not fit"
        for ours, group in zip(kept, self.groups, strict=True):
            for (_, dtype, state), p in zip(ours, group["params"], strict=True):
                if dtype == p.dtype:
                    self.check_kept(state, self.seen_of(p)[1], "loading")

    def odd_state(self, kept: list[Any]) -> bool:
        """Whether the state was not fit for a step when it was saved."""
        return any(
            isinstance(t, Tensor) and name not in NUMBERS and tuple(t.shape) != shape
            for group in kept
            for shape, _, state in group
            for name, t in state.items()
        )

    @operation()
    def rebirth(self) -> None:
        """A new optimizer of the same parameters gets the state of the old one."""
        if self.by_torch or not all(group["params"] for group in self.groups) or not self.groups or self.is_odd():
            return
        before = self.seen()
        if any("foreign" in kept for _, kept in before.values()):
            return
        groups = [{**group, "params": list(group["params"])} for group in self.groups]
        for group in groups:
            if len(group.get("param_names", group["params"])) != len(group["params"]):
                return  # edited by hand, without the names
            if "param_names" in group:
                group["params"] = list(zip(group.pop("param_names"), group["params"], strict=True))
        try:
            new = self.make_optimizer(groups)
        except SoonerError as error:
            if re.search("no hidden weight matrix|nesterov=True needs", str(error)):
                return  # Muon wants a matrix when it is made, and SGD settings that suit each other
            raise
        new.load_state_dict(self.optimizer.state_dict())
        self.optimizer = new
        before = {p: kept for p, kept in before.items() if any(p is q for q in self.listed)}
        after = {p: self.seen_of(p) for p in before}
        self.check_same(before, after, "saving and loading")

    @operation()
    def through_torch(self) -> None:
        """The state goes into torch's own class, which takes it, and comes back."""
        cls = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}.get(self.method)
        if cls is None or self.is_odd() or any(p.dtype in HALVES for p in self.listed):
            return
        named = any("param_names" in group for group in self.groups)
        before = {p: kept for p, kept in self.seen().items() if any(p is q for q in self.listed)}
        if not self.listed or named or any("foreign" in kept for _, kept in before.values()):
            return
        settings = [{k: v for k, v in group.items() if k in cls([torch.zeros(1)]).defaults} for group in self.groups]
        theirs = cls([{**s, "params": group["params"]} for s, group in zip(settings, self.groups, strict=True)])
        theirs.load_state_dict(self.optimizer.state_dict())
        self.optimizer.load_state_dict(theirs.state_dict())
        self.check_same(before, {p: self.seen_of(p) for p in before}, "going through torch's class")

    def is_odd(self) -> bool:
        """Whether some state does not suit its parameter, so that it must be refused."""
        return any(
            isinstance(t, Tensor) and name not in NUMBERS and t.shape != p.shape
            for p in self.listed
            for name, t in self.optimizer.state.get(p, {}).items()
        )


def machine(method: str, executor: str) -> type[Sequence]:
    """Return the machine of one method under one executor."""
    return type(f"Sequence_{method}_{executor}", (Sequence,), {"method": method, "executor": executor})


def replay(method: str, executor: str, lines: list[str]) -> None:
    """Do again what a machine has written down."""
    again = machine(method, executor)()
    for line in lines:
        name, drawn = json.loads(line)
        getattr(again, name)(**drawn)


def _same(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided:
        return torch.equal(a.to_dense(), b.to_dense())
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(nan=3.25e7), b.nan_to_num(nan=3.25e7))


def _overlap(a: Tensor, b: Tensor) -> bool:
    return a.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _off(found: Tensor, wanted: Tensor, slack: Tensor) -> str:
    """Return where a tensor is off by more than its slack; numbers too large for its dtype may be infinite."""
    if found.shape != wanted.shape:
        return f"shape {tuple(found.shape)}, it should be {tuple(wanted.shape)}"
    right = ((found - wanted).abs() <= slack) | (found == wanted) | (found.isnan() & wanted.isnan())
    right |= ~found.isfinite() & (wanted.abs() > 6e4)
    if bool(right.all()):
        return ""
    i = int((~right).flatten().nonzero()[0])
    is_off = found.flatten()[i].item() - wanted.flatten()[i].item()
    return (
        f"entry {i} is {found.flatten()[i].item()!r}, it should be {wanted.flatten()[i].item()!r} "
        f"(off by {is_off:.3g}, allowed {slack.flatten()[i].item():.3g})"
    )
