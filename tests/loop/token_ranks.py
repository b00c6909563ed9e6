"""Run by test_token_weights.py: two gloo processes with unequal numbers of labels; writes down what differs."""

import json
import os
import sys
import traceback
import warnings
from dataclasses import replace

import tokens
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import sooner
from sooner.communication import Group
from sooner.objective import Objective
from sooner.recipe import Recipe
from sooner.recipe.training import Training
from sooner.task import Task

OWN = [(3, 12, 1), (5, 0, 2)]  # labels in the micro-batches of the two ranks
NOTHING = [(0, 0), (4, 9)]  # a rank without any


def batches(rank, known=OWN):
    return tokens.labelled(*known[rank], seed=rank)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def averaged(count, known=OWN, recipe="sgd(lr=0.1)", seed=0):
    rank = distributed.get_rank()
    model = tokens.net()
    training = Recipe(recipe).build(model, 10)
    loss = training.backward(Objective(model, tokens.summed(count), batches(rank, known)))
    training.average_gradients()
    expected, slope = tokens.truth(batches(0, known) + batches(1, known))
    close(tokens.gradient(model), slope)
    close(loss, expected)


def check_gradients_of_all_ranks():
    for count in tokens.COUNTS.values():
        averaged(count)
        averaged(count, NOTHING)
        averaged(count, [(7,), (2,)])


def check_what_is_sent():
    model = tokens.net()
    training = Recipe("sgd(lr=0.1)").build(model, 10)
    traffic = training.communication.wire.traffic
    for loss in (tokens.mean, tokens.summed()):
        before = traffic.messages
        for _ in range(3):
            training.backward(Objective(model, loss, batches(0)))
            training.average_gradients()
            training.zero_grad()
        if loss is tokens.mean:
            plain = traffic.messages - before
    assert traffic.messages - before == plain - 1 + 3  # the first of all asks which parameters have gradients


def check_models_that_average_themselves():
    rank = distributed.get_rank()
    for shard in (False, True):
        for known in (OWN, NOTHING):
            model = tokens.net()
            wrapped = fully_shard(model) if shard else DistributedDataParallel(model)
            training = Recipe("sgd(lr=0.1)").build(wrapped, 10)
            assert training.communication is None
            for count in tokens.COUNTS.values():
                loss = training.backward(Objective(wrapped, tokens.summed(count), batches(rank, known)))
                expected, slope = tokens.truth(batches(0, known) + batches(1, known))
                whole = [p.grad.full_tensor() if shard else p.grad for p in model.parameters()]
                close(torch.cat([g.flatten() for g in whole]), slope)
                close(loss, expected)
                training.zero_grad()


def check_a_plain_model_beside_a_wrapped_one():
    """As people do: the recipe is made for the model, and the loss goes through DDP around it."""
    rank = distributed.get_rank()
    model = tokens.net()
    wrapped = DistributedDataParallel(model)
    training = Training(model, [torch.optim.SGD(model.parameters(), lr=0.1)], [])
    training.backward(Objective(wrapped, tokens.summed(), batches(rank)))
    close(tokens.gradient(model), tokens.truth(batches(0) + batches(1))[1])


def check_workers_that_step_alone_count_their_own():
    rank = distributed.get_rank()
    model = tokens.net()
    training = Recipe("sgd(lr=0.1) + local_sgd(every=3)").build(model, 10)
    loss = training.backward(Objective(model, tokens.summed(), batches(rank)))
    expected, slope = tokens.truth(batches(rank))
    close(tokens.gradient(model), slope)
    close(loss, expected)


def check_gradients_that_were_there_before():
    rank = distributed.get_rank()
    model = tokens.net()
    training = Recipe("sgd(lr=0.1)").build(model, 10)
    for number in (0, 1):
        half = [b[number::2] for b in (batches(0), batches(1))]
        training.backward(Objective(model, tokens.summed(), half[rank]))
    training.average_gradients()
    slopes = [tokens.truth([*batches(0)[n::2], *batches(1)[n::2]])[1] for n in (0, 1)]
    close(tokens.gradient(model), sum(slopes))


def check_sources_of_gradients():
    rank = distributed.get_rank()
    for known in (OWN, NOTHING):
        for recipe in ("conadv(eps=0.0, weight=0.0) + sgd", "cma_harmony(realign=False, most_dropped=0.0) + sgd"):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(3, 2)).double()
            own = [[(torch.randn(6, 3).double(), y[0]) for _, y in batches(r, known)] for r in (0, 1)]
            offered = {"next batch", "losses"}
            training = Recipe(recipe).build(model, 10, offered)

            def loss(model, batch):
                x, y = batch
                found = nn.functional.cross_entropy(model(x), y.clamp(max=1), ignore_index=-100, reduction="sum")
                return found, (y >= 0).sum()

            def losses(model, batch, loss=loss):
                total, count = loss(model, batch)
                return {"some": (0.25 * total, count), "rest": (0.75 * total, count)}

            made = training.backward(Objective(model, loss, own[rank], lambda own=own: own[rank], losses=losses))
            training.average_gradients()
            x, y = (torch.cat(parts) for parts in zip(*own[0], *own[1], strict=True))
            other = nn.Sequential(nn.Linear(3, 2)).double()
            other.load_state_dict(model.state_dict())
            whole = nn.functional.cross_entropy(other(x), y.clamp(max=1), ignore_index=-100)
            whole.backward()
            close(tokens.gradient(model), tokens.gradient(other))
            (made,) = Group().mean((made,))
            close(made, whole.detach())


def shown(seed, split):
    return tokens.labelled(*([4, 9] if split == "eval" else [1, 12, 5, 7] * 6), seed=seed % 1000)


def check_the_reference_loop():
    task = Task(tokens.net_of_seed, shown, tokens.summed(COUNTED), 3)
    for recipe in ("sgd(lr=0.5)", "adamw(lr=0.01) + clip_norm(max_norm=0.05) + linear + ema(decay=0.5)"):
        run = sooner.train(task, recipe, 3, accumulate=2)
        streams = [sooner.task.worker_batches(task, 3, r, 2) for r in (0, 1)]
        together = [[tokens.joined([s[2 * i + k] for s in streams for k in (0, 1)])] for i in range(3)]

        def one(seed, split, together=together):
            return shown(seed, split) if split == "eval" else [step[0] for step in together]

        alone = replace(task, batches=one)
        expected = alone_run(alone, recipe)
        close(run.losses, expected.losses)
        close(torch.tensor(run.values), torch.tensor(expected.values))
        for p, q in zip(run.model.parameters(), expected.model.parameters(), strict=True):
            close(p.detach(), q.detach())


COUNTED = tokens.COUNTS["int64 tensor"]


def alone_run(task, recipe):
    """Train in this process as if it were the only one."""
    initialised = distributed.is_initialized
    distributed.is_initialized = lambda: False
    try:
        return sooner.train(task, recipe, 3)
    finally:
        distributed.is_initialized = initialised


def main():
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo")
    del os.environ["WORLD_SIZE"]  # so that `alone` meets nobody
    failed = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
            except Exception:
                failed[name] = traceback.format_exc()
    sys.stdout.write(json.dumps(failed))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
