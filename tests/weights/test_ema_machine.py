"""Random lives of a model and its average, against one float64 history per weight and the definition of the average."""

import copy
import pickle

import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from hypothesis.strategies import booleans, integers, sampled_from
from torch import nn

from sooner.weights import EMA

DECAY = 0.7
EXACT = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
layers = integers(0, 5)


class Weight:
    """One weight (or statistic) of the model: what it was at each step since it was taken in."""

    def __init__(self, moves=True):
        self.history, self.moves, self.tracked, self.tolerance = [], moves, False, 0.0

    def average(self):
        total = torch.zeros_like(self.history[0])
        for value in self.history:
            total = DECAY * total + (1 - DECAY) * value
        return total / (1 - DECAY ** len(self.history))


class Life(RuleBasedStateMachine):
    """Does things to a model and keeps the books: for each layer the weights that it should have."""

    @initialize(frozen=booleans(), on_cpu=booleans())
    def begin(self, frozen, on_cpu):
        self.count = 0
        self.net, self.books = nn.Sequential(), []
        for i in range(3):
            self.net.append(nn.Linear(2, 2, bias=False))
            self.net.append(nn.BatchNorm1d(2))
            self.books += [
                {"weight": Weight()},
                {n: Weight() for n in ("weight", "bias", "running_mean", "running_var")},
            ]
        self.net[0].weight.requires_grad_(not frozen)
        self.books[0]["weight"].moves = not frozen
        self.ema = EMA(self.net, DECAY, "cpu" if on_cpu else None)
        self.taken_in()

    def entries(self):
        """Every weight once, with its tensor."""
        seen = {}
        for module, book in zip(self.net, self.books, strict=True):
            inner = getattr(module, "_orig_mod", module)
            for name, weight in book.items():
                seen[weight] = getattr(inner, name)
        return seen

    def taken_in(self):
        for weight in self.entries():
            weight.tracked |= weight.moves

    def numbers(self, like):
        generator = torch.Generator().manual_seed(self.count)
        self.count += 1
        return torch.rand(like.shape, generator=generator, dtype=torch.float64) + 0.5

    def fill(self):
        with torch.no_grad():
            for tensor in self.entries().values():
                tensor.copy_(self.numbers(tensor))

    @rule()
    def step(self):
        self.fill()
        self.ema.after_step()
        self.taken_in()
        for weight, tensor in self.entries().items():
            if weight.tracked:
                weight.history.append(tensor.detach().double().clone())
                weight.tolerance = max(weight.tolerance, EXACT[torch.float32 if tensor.itemsize < 8 else tensor.dtype])

    @rule(inside=sampled_from(["nothing", "cast", "assign", "zero", "fail"]))
    def look(self, inside):
        self.fill()
        kept = {weight: tensor.detach().clone() for weight, tensor in self.entries().items()}
        try:
            with self.ema.view():
                self.taken_in()  # what was unfrozen meanwhile comes in, and waits for its first step
                for weight, tensor in self.entries().items():
                    wanted = weight.average() if weight.history else kept[weight].double()
                    error = max(weight.tolerance, EXACT[tensor.dtype])
                    torch.testing.assert_close(tensor.detach().double(), wanted, rtol=error, atol=error)
                with torch.no_grad():
                    for weight, tensor in self.entries().items():
                        if inside == "zero" and weight.tracked:
                            tensor.zero_()
                if inside == "cast":
                    types = [next(module.parameters()).dtype for module in self.net]
                    self.net.double()
                    for module, dtype in zip(self.net, types, strict=True):
                        module.to(dtype)
                elif inside == "assign":
                    self.assign()
                elif inside == "fail":
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert inside == "fail"
        if inside != "assign":  # frozen ones too are what they were
            assert all(torch.equal(tensor, kept[weight]) for weight, tensor in self.entries().items())

    @rule(at=layers, dtype=sampled_from(list(EXACT)), whole=booleans())
    def cast(self, at, dtype, whole):
        (self.net if whole else self.net[at % len(self.net)]).to(dtype)
        for weight, tensor in self.entries().items():  # an average becomes as wide as its weight, at the next look
            weight.tolerance = max(weight.tolerance, EXACT[torch.float32] if tensor.itemsize < 8 else 0)

    @rule()
    def assign(self):
        frozen = {name for name, p in self.net.named_parameters(remove_duplicate=False) if not p.requires_grad}
        tied = [(a, b) for a, x in enumerate(self.net) for b, y in enumerate(self.net) if a < b and self.same(x, y)]
        self.net.load_state_dict({name: t.clone() for name, t in self.net.state_dict().items()}, assign=True)
        for a, b in tied:
            self.inner(b).weight = self.inner(a).weight
        for name, p in self.net.named_parameters():
            p.requires_grad_(name not in frozen)
        self.ema.state_dict()

    def inner(self, at):
        return getattr(self.net[at], "_orig_mod", self.net[at])

    def same(self, x, y):
        return getattr(x, "_orig_mod", x).weight is getattr(y, "_orig_mod", y).weight

    @rule()
    def data(self):
        for p in self.net.parameters():
            p.data = p.detach().clone()

    @rule(at=layers, on=booleans())
    def freeze(self, at, on):
        at %= len(self.net)
        for name in ("weight", "bias"):
            if name in self.books[at]:
                getattr(self.inner(at), name).requires_grad_(not on)
                self.books[at][name].moves = not on

    @rule(at=layers)
    def take_out(self, at):
        at %= len(self.net)
        if len(self.net) > 2:
            del self.net[at]
            del self.books[at]
            self.ema.state_dict()  # looks, for what happens between two looks can't always be told

    @rule(at=layers)
    def put_in(self, at):
        if len(self.net) < 6:
            self.net.insert(at % len(self.net), nn.Linear(2, 2, bias=False, dtype=torch.float64))
            self.books.insert(at % (len(self.net) - 1), {"weight": Weight()})
            self.ema.state_dict()
            self.taken_in()

    @rule(a=layers, b=layers)
    def tie(self, a, b):
        a, b = a % len(self.net), b % len(self.net)
        if all(isinstance(self.inner(i), nn.Linear) for i in (a, b)):
            self.inner(b).weight = self.inner(a).weight
            self.books[b]["weight"] = self.books[a]["weight"]
            self.ema.state_dict()

    @rule(at=layers)
    def untie(self, at):
        at %= len(self.net)
        if isinstance(self.inner(at), nn.Linear):
            old = self.inner(at).weight
            self.inner(at).weight = nn.Parameter(old.detach().clone(), old.requires_grad)
            self.books[at]["weight"] = copy.deepcopy(self.books[at]["weight"])
            self.ema.state_dict()

    @rule(at=layers)
    def wrap(self, at):
        at %= len(self.net)
        inner = self.inner(at)
        self.net[at] = inner if inner is not self.net[at] else torch.compile(inner, backend="eager")

    @rule(how=sampled_from(["together", "average first", "average alone", "pickled"]))
    def copied(self, how):
        if how == "together":
            self.net, self.ema = copy.deepcopy((self.net, self.ema))
        elif how == "average first":
            self.ema, self.net = copy.deepcopy((self.ema, self.net))
        elif how == "average alone":
            self.ema = copy.deepcopy(self.ema)
        elif all(self.inner(i) is self.net[i] for i in range(len(self.net))):  # compiled ones can't be pickled
            self.net, self.ema = pickle.loads(pickle.dumps((self.net, self.ema)))
        assert self.ema.model is self.net

    @rule(strict=booleans())
    def saved(self, strict):
        state = copy.deepcopy(self.ema.state_dict())
        self.taken_in()
        if any(p.requires_grad for p in self.net.parameters()):
            self.ema = EMA(nn.DataParallel(self.net), DECAY, self.ema.device)
            for weight in self.entries():  # frozen before its first step: the new one has not seen it otherwise
                weight.tracked = weight.moves or bool(weight.history)
        fits = not state["steps"] or all(weight.history for weight in self.entries() if weight.tracked)
        assert (self.ema.load_state_dict(state, strict=strict and fits) == []) is fits


class TestLife(Life.TestCase):
    settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
