"""A mixture of saved weights: the linear combination of many snapshots of a run that does best on a metric.

    theta(a) = theta_K + sum_(i < K) a_i * (theta_i - theta_K),   a_K = 1 - sum_(i < K) a_i
    a = argmin metric(theta(a)),   |a_i| <= 10, also below 0

Averages weigh snapshots by a fixed rule; here a held-out loss weighs them, and may go beyond them. Where the metric has
a gradient, L-BFGS finds the coefficients: one backward pass gives all of theirs, d metric / d a_i = <d metric / d
theta, theta_i - theta_K>. Else a population of coefficients evolves.

Use it when learning rates are constant or training may end at any time, and some held-out examples can be spared.

Leave it when rates decay to zero, where snapshots hardly differ, when held-out examples are few, which it then fits,
or when only probabilities are off: an average with its logits rescaled was as good in our claim.

It costs a file of `keep` times the weights, mapped into memory; a forward and backward pass on held-out examples per
evaluation; nothing on the wire.

"Linear Combination of Saved Checkpoints Makes Consistency and Diffusion Models Better", Liu et al., 2024, arXiv
2404.02241. Its search code is not published: the search by gradients is ours, and so are the numbers of the evolution.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation import snapshots
from sooner.foundation.model_names import unwrapped
from sooner.objective import Objective, mean_of
from sooner.part import Part, check_choice, check_range
from sooner.space import Choice, Knob
from sooner.weights._followed import Place, places
from sooner.weights._mixing import Best, evolved, followed_downhill
from sooner.weights._trial import Metric, Trial, is_statistic, mapped, read, write

__all__ = ["Mixture"]

METHODS = ("gradient", "evolution")
IN_RECIPES = 40
"""Evaluations of a search that a recipe makes by itself."""


class Mixture(Part):
    """Keeps snapshots; `search` mixes them, and `view` lends the mixture to the model.

        mix = sooner.weights.Mixture(model, every=50, keep=30)
        ...                                                   # mix.after_step() after every step of the optimizer
        mix.search(lambda: loss(model, held_out), evaluations=100)
        with mix.view():
            evaluate(model)

    Until a search has found one, the mixture is the uniform average of all snapshots kept; before the first snapshot
    it is the weights themselves. A mixture stays what it is until the next search, whatever snapshots come.

    In a recipe (``"adamw + mixture"``) a batch that is not trained on is put by at every snapshot, and the first
    evaluation after a snapshot searches on the newest of them.

    Snapshots hold the parameters that required gradients when this was made (tied ones once) and the running statistics
    of batch normalization, in float32 (float64 for models in float64), in a file of the operating system's folder for
    temporary files that has no name and goes away with this. They are matched by name: the model may be moved, cast,
    wrapped by DistributedDataParallel or `torch.compile` and get its weights assigned. Statistics of other weights do
    not fit a mixture, and with negative coefficients they make no sense: `search` measures them by `refresh`.

    Args:
        model: the model; wrappers of it are looked through.
        every: steps from one snapshot to the next, default 50.
        keep: how many to keep, the newest, at least 2, default 30.
        probes: in a recipe, how many batches to search on, default 8.

    Attributes:
        coefficients: of the mixture found last, oldest snapshot first; empty before.
        evaluations: of metrics in all searches.

    Raises:
        SoonerError: a number out of range, a model without trained parameters or sharded, or no room for the file.
    """

    station: ClassVar[str] = "weights"
    needs = frozenset({"held-out loss"})
    owns = frozenset({"evaluation weights"})
    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(5, 10, 25, 50)}

    def __init__(self, model: nn.Module, every: int = 50, keep: int = 30, probes: int = 8) -> None:
        for name, value, least in (("every", every, 1), ("keep", keep, 2), ("probes", probes, 1)):
            check_range("mixture", name, value, least, math.inf, whole=True)
        self.every, self.keep, self.probes = every, keep, probes
        self.coefficients: list[float] = []
        self.evaluations = 0
        self.steps = 0
        self.taken = 0
        self._model = unwrapped(model)
        self._copied: dict[int, Any] | None = None
        found = [place for place in places(self._model, "mixture") if place.moves]
        if not any(place.tensor.requires_grad for place in found):
            raise SoonerError("mixture: no parameter of the model requires gradients, so there is nothing to mix")
        self._shapes = {place.names[0]: tuple(place.tensor.shape) for place in found}
        self._look()
        wide = any(place.tensor.dtype == torch.float64 for place in found)
        size = sum(place.tensor.numel() for place in found)
        self._rows = mapped(keep + 1, size, torch.float64 if wide else torch.float32)  # the last one is the mixture
        self._found = False
        self._stale = False
        self._objective: Objective | None = None
        self._batches: list[Any] = []

    @property
    def model(self) -> nn.Module:
        """The model whose weights are mixed, without wrappers."""
        if self._copied is not None:  # a deep copy: by now the model was copied with it, or was not
            self._model = self._copied.get(id(self._model), self._model)
            self._copied = None
        return self._model

    @property
    def kept(self) -> int:
        """How many snapshots there are."""
        return min(self.taken, self.keep)

    @contextlib.contextmanager
    def around_step(self, objective: Objective | None) -> Iterator[None]:
        """In a recipe: note what the loss is."""
        self._objective = objective
        yield

    @torch.inference_mode(False)
    @torch.no_grad()
    def after_step(self) -> None:
        """Count a step, and take a snapshot where it is time.

        Raises:
            SoonerError: called inside `view` or a search; or the model has other weights than those of the snapshots.
        """
        if any(model is self.model for model in snapshots.lent()):
            raise SoonerError("mixture: a step was taken inside view(), on other weights; leave the view to train")
        self.steps += 1
        if self.steps % self.every:
            return
        read(self._rows[self.taken % self.keep], self._look())
        self.taken += 1
        self._stale = True
        if self._objective is not None and self._objective.held_out is not None:
            self._batches = [*self._batches, self._objective.held_out()][-self.probes :]

    def search(
        self,
        metric: Metric,
        evaluations: int = 100,
        *,
        check: Metric | None = None,
        refresh: Callable[[], Any] | None = None,
        method: str | None = None,
        seed: int = 0,
    ) -> float:
        """Find the mixture of the snapshots for which a metric is lowest; `view` shows it from now on.

        Args:
            metric: returns the metric, lower is better, of the model, which holds the mixture in evaluation mode: a 0-d
                tensor with its graph, or a number. The same examples and the same noise every time.
            evaluations: how often it may be called, default 100; evolution wants about 2,000.
            check: the same on other held-out examples; the search ends when it rises, and takes the best for it.
            refresh: runs the model, in training mode, over some training examples, so that batch normalization measures
                its statistics for the mixture; needed where there are such statistics. They count as constants in
                gradients.
            method: ``"gradient"`` (L-BFGS, deterministic) or ``"evolution"``; None for the first where the metric has a
                gradient.
            seed: of the evolution.

        Returns:
            The metric of the mixture found, or where `check` is given that of `check`.

        Raises:
            SoonerError: fewer than two snapshots, statistics and no `refresh`, a metric that is no number for any
                start, or one without a gradient where `method` asks for it.
        """
        check_range("mixture", "evaluations", evaluations, 1, math.inf, whole=True)
        if method is not None:
            check_choice("mixture", "method", method, METHODS)
        if self.kept < 2:
            raise SoonerError(
                f"mixture: there are {self.kept} snapshots so far, and a search needs two; take more steps, or make "
                f"every={self.every} smaller"
            )
        found = self._look()
        if refresh is None and any(is_statistic(place) for place in found):
            raise SoonerError(
                "mixture: the model has running statistics, which must be measured for every mixture; give "
                "refresh=lambda: [model(x) for x in some_training_inputs] to search()"
            )
        with self._lent(found):
            trial = Trial(self.model, self.ordered(), found, metric, refresh)
            way = method or ("gradient" if trial.has_gradient() else "evolution")
            starts = self._starts()
            search = followed_downhill if way == "gradient" else evolved
            best: Best = search(trial, starts, evaluations, None if check is None else trial.checked(check), seed)
            if not math.isfinite(best.value):
                raise SoonerError(
                    "mixture: the metric is not a finite number for any average of the snapshots; look at the run, "
                    "or at the metric"
                )
            trial.put(best.coefficients)
            with torch.no_grad():
                read(self._rows[self.keep], found)
        self.evaluations += trial.evaluations
        self.coefficients = best.coefficients.tolist()
        self._found, self._stale = True, False
        return best.value

    @contextlib.contextmanager
    def view(self) -> Iterator[None]:
        """Inside, the model holds the mixture; what is done to its weights there is undone.

        Raises:
            SoonerError: the model has other weights than those of the snapshots.
        """
        found = self._look()
        if self._stale and self._batches and self._objective is not None and self.kept > 1:
            self._search_by_itself(found)
        with self._lent(found):
            with torch.no_grad():
                if self._found:
                    write(self._rows[self.keep], found)
                elif self.kept:
                    write(self._rows[: self.kept].mean(0), found)
            yield

    def _search_by_itself(self, found: list[Place]) -> None:
        objective, batches = self._objective, self._batches
        assert objective is not None

        def metric() -> Tensor:
            return torch.stack([mean_of(objective.loss(objective.model, batch)) for batch in batches]).mean()

        def refresh() -> None:
            for batch in batches:
                objective.loss(objective.model, batch)

        with torch.random.fork_rng(sorted({p.tensor.device.index for p in found if p.tensor.is_cuda})):
            self.search(metric, IN_RECIPES, refresh=refresh)

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots, the mixture, and the batches that a recipe has put by; as large as all of them."""
        own = {name: getattr(self, name) for name in _COUNTED}
        rows = [self._rows[: self.kept].clone(), self._rows[self.keep].clone() if self._found else None]
        return {"names": list(self._shapes), "rows": rows, "batches": list(self._batches), **own}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, on a model that is wrapped or not.

        Raises:
            SoonerError: it is no state of this class, or that of another model, or with another `keep`.
        """
        try:
            (rows, mixture), names, batches = state["rows"], list(state["names"]), list(state["batches"])
            counted = {name: state[name] for name in _COUNTED}
            kept = min(counted["taken"], self.keep)
            fits = rows.shape == (kept, self._rows.shape[1]) and names == list(self._shapes)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SoonerError(
                "mixture: this is no state of a Mixture, which has 'rows' and 'names'; load what state_dict() gave"
            ) from None
        if not fits:
            raise SoonerError(
                f"mixture: the state is of another model or another keep ({len(rows)} snapshots of {len(names)} "
                f"tensors, {rows.shape[-1]} numbers each); load it into a Mixture made alike"
            )
        self._rows[:kept].copy_(rows)
        if mixture is not None:
            self._rows[self.keep].copy_(mixture)
        for name, value in counted.items():
            setattr(self, name, value)
        self._batches = batches

    def __deepcopy__(self, memo: dict[int, Any]) -> Mixture:
        """Return a copy that follows the copy of the model, if that is made in the same call, else the model."""
        made = object.__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(self.__getstate__(), _copied=memo)
        made._rows = mapped(len(self._rows), self._rows.shape[1], self._rows.dtype).copy_(self._rows)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the snapshots go along, the loss of a recipe does not.

        Raises:
            SoonerError: called inside `view`, where the model holds the mixture.
        """
        if any(model is self.model for model in snapshots.lent()):
            raise SoonerError(
                "mixture: a copy inside view() would train on from the mixture; leave the view to copy it"
            )
        return {**self.__dict__, "_objective": None, "_copied": None, "_model": self.model}

    def _look(self) -> list[Place]:
        """Return where the mixed tensors are now, in the order of the snapshots.

        Raises:
            SoonerError: they are not there as they were.
        """
        by_name = {name: place for place in places(self.model, "mixture") for name in place.names}
        odd = [n for n, shape in self._shapes.items() if n not in by_name or tuple(by_name[n].tensor.shape) != shape]
        if odd:
            raise SoonerError(
                f"mixture: the model has no {odd[0]} of shape {list(self._shapes[odd[0]])} any more, so its snapshots "
                "are of another model; make a new Mixture of this one"
            )
        found = [by_name[name] for name in self._shapes]
        for place in found:
            if place.tensor.is_meta or is_sharded(place.tensor):
                why = "on the meta device" if place.tensor.is_meta else "sharded over processes"
                raise SoonerError(
                    f"mixture: {place.names[0]} is {why}, and snapshots need whole weights; use ema, or mix in a "
                    "process that has them"
                )
        return found

    @contextlib.contextmanager
    def _lent(self, found: list[Place]) -> Iterator[None]:
        """Inside, the model may be given other weights; afterwards it has its own, wherever it is then."""
        with snapshots.shown(self.model):
            own = [place.tensor.detach().clone() for place in found]
            try:
                yield
            finally:
                with torch.inference_mode(False), torch.no_grad():
                    for place, weight in zip(self._look(), own, strict=True):
                        place.tensor.detach().copy_(weight)

    def ordered(self) -> Tensor:
        """Return the snapshots ``[k, n]``, oldest first, without a copy as long as none was dropped."""
        if self.taken <= self.keep:
            return self._rows[: self.kept]
        first = self.taken % self.keep
        return self._rows[[*range(first, self.keep), *range(first)]]

    def _starts(self) -> list[Tensor]:
        """Return where searches begin: the last snapshot, uniform averages of the last ones, and exponential ones."""
        k = self.kept
        age = torch.arange(k - 1, -1, -1, dtype=torch.float64)
        uniform = [(age < n).double() / min(n, k) for n in dict.fromkeys((1, 5, 10, k)) if n <= k]
        decays = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]
        return [*uniform, *(decay**age / (decay**age).sum() for decay in decays)]


_COUNTED = ("steps", "taken", "evaluations", "coefficients", "_found", "_stale")
