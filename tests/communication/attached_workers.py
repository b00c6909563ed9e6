"""Run by test_attached.py: two gloo processes go through all checks in turn and write down what failed."""

import copy
import datetime
import json
import logging
import runpy
import sys
import traceback
import unittest.mock

import numpy as np
import outer_references as reference
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import sooner.update
from sooner.communication import (
    CO2,
    EF,
    EF21,
    FP16,
    SAM,
    SNOO,
    SPES,
    DiLoCo,
    Exchange,
    FedHyper,
    FedHyperClients,
    Group,
    LocalSGD,
    NoLoCo,
    Proximal,
    Silent,
    Sim,
    StreamingDiLoCo,
    TopK,
)
from sooner.communication._attached import Communication
from sooner.error import SoonerError
from sooner.objective import Objective

OUTERS = [
    LocalSGD(3),
    DiLoCo(3),
    StreamingDiLoCo(6, fragments=3, delay=1),
    StreamingDiLoCo(6, fragments=3, delay=5),
    CO2(3, momentum=0.3),
    NoLoCo(3),
    SNOO(3),
    FedHyper(3),
    FedHyper(3, "GM"),
]


def rank():
    return distributed.get_rank()


def everyone(what):
    """Return what the ranks have, in their order."""
    heard = [None, None]
    distributed.all_gather_object(heard, what)
    return heard


def flat(net):
    return torch.cat([t.detach().double().reshape(-1) for t in net.parameters()])


def same_everywhere(net):
    first, second = everyone(torch.cat([t.detach().double().reshape(-1) for t in (*net.parameters(), *net.buffers())]))
    return torch.equal(first, second)


def data(step, worker, width=4):
    generator = torch.Generator().manual_seed(10 * step + worker)
    return torch.randn(6, width, generator=generator), torch.randn(6, 2, generator=generator)


class Quadratic(nn.Module):
    """The references' problem: the vectors a, b, c of one worker's quadratic."""

    def __init__(self):
        super().__init__()
        a, b, c = np.split(reference.start(), [3, 11])
        # the layout orders by dimensions and shape: c comes before a, and b last
        self.a, self.b, self.c = (nn.Parameter(torch.from_numpy(v)) for v in (a, b.reshape(2, 4), c))


LAYOUT_ORDER = np.concatenate(([11], np.arange(3), np.arange(3, 11)))


def plain_net():
    torch.manual_seed(rank())  # weights are to be those of rank 0 anyway
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(net, optimizers, steps, begin=0, set_to_none=True, before=None):
    for step in range(begin, steps):
        x, y = data(step, rank())
        nn.functional.mse_loss(net(x), y).backward()
        if before:
            before()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)


def sgd(net, **more):
    return torch.optim.SGD(net.parameters(), lr=0.1, **more)


def check_dense_is_ddp_to_the_bit():
    for none in (True, False):
        ours, theirs = plain_net(), DistributedDataParallel(plain_net())
        a, b = sgd(ours, momentum=0.9), sgd(theirs, momentum=0.9)
        Communication(ours, a)
        train(ours, [a], 7, set_to_none=none)
        train(theirs, [b], 7, set_to_none=none)
        assert torch.equal(flat(ours), flat(theirs))
        assert same_everywhere(ours)


def check_gradients_hold_the_average():
    net = plain_net()
    optimizer = sgd(net)
    Communication(net, optimizer)
    x, y = data(0, rank())
    nn.functional.mse_loss(net(x), y).backward()
    own = everyone([p.grad.clone() for p in net.parameters()])
    optimizer.step()
    for p, first, second in zip(net.parameters(), *own, strict=True):
        torch.testing.assert_close(p.grad, (first + second) / 2)


def check_gradients_may_be_looked_at_before_the_step():
    ours, theirs = plain_net(), DistributedDataParallel(plain_net())
    a, b = sgd(ours), sgd(theirs)
    communication = Communication(ours, a)

    def clip(net, average=lambda: None):
        average()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)

    train(ours, [a], 4, before=lambda: clip(ours, communication.average_gradients))
    train(theirs, [b], 4, before=lambda: clip(theirs))
    assert torch.equal(flat(ours), flat(theirs))
    assert communication.wire.traffic.messages == 1 + 4, "who has gradients, once, and one average per step"


def check_clipping_does_not_reach_what_the_exchange_remembers():
    found = []
    for clip in (False, True):
        net = plain_net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        communication = Communication(net, optimizer, [EF21(), TopK(0.2)])

        def look(net=net, communication=communication, clip=clip):
            communication.average_gradients()
            if clip:
                torch._foreach_zero_([p.grad for p in net.parameters()])

        train(net, [optimizer], 3, before=look)
        found.append(communication.exchange.state_dict()["state"]["memory"])
    assert found[0]
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def ours_on_this_process(outer, steps, save=False, begin=None, parts=()):
    net = Quadratic()
    optimizer = torch.optim.SGD(net.parameters(), lr=reference.RATE)
    communication = Communication(net, optimizer, [outer, *parts])
    done, saved, history = 0, [], []
    if begin is not None:
        begin = copy.deepcopy(begin)
        done = begin["done"]
        net.load_state_dict(begin["net"])
        communication.load_state_dict(begin["communication"])
    for step in range(done + 1, steps + 1):
        x = torch.cat([net.a.detach(), net.b.detach().reshape(-1), net.c.detach()]).numpy()
        # the references see vectors in the layout's order
        g = np.empty(reference.SIZE)
        g[LAYOUT_ORDER] = reference.gradient(rank(), step, x[LAYOUT_ORDER])
        a, b, c = np.split(g, [3, 11])
        net.a.grad, net.b.grad, net.c.grad = (torch.from_numpy(v.copy()) for v in (a, b.reshape(2, 4), c))
        optimizer.step()
        optimizer.zero_grad()
        x = torch.cat([net.a.detach(), net.b.detach().reshape(-1), net.c.detach()]).numpy()
        history.append(x[LAYOUT_ORDER])
        if save:
            kept = {"net": net.state_dict(), "communication": communication.state_dict(), "done": step}
            saved.append(copy.deepcopy(kept))
    return np.stack(history), saved, communication


def simulated(outer, steps, codec=None):
    """Return this rank's part of the same run in a simulated cluster, whose start is in the layout's order."""
    original = reference.start

    def in_layout_order():
        return original()[LAYOUT_ORDER]

    reference.start = in_layout_order
    try:
        history, exchange, *_ = reference.run_ours(outer, 2, steps, codec)
    finally:
        reference.start = original
    return history[:, rank()], exchange


def check_a_process_group_is_the_simulation():
    for outer in OUTERS:
        ours, _, communication = ours_on_this_process(outer, 20)
        expected, exchange = simulated(outer, 20)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13, err_msg=str(outer))
        buffers = 4 * 3 * communication.averages_gradients * 2  # who has gradients: three float64 numbers
        assert communication.wire.traffic.payload_bytes == exchange.wire.traffic.payload_bytes + buffers, outer


def check_half_precision_on_the_wire_is_the_simulation():
    for outer in (DiLoCo(3), CO2(3), StreamingDiLoCo(6, fragments=3, delay=1)):
        ours, *_ = ours_on_this_process(outer, 20, parts=[FP16()])
        expected, _ = simulated(outer, 20, FP16())
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4, err_msg=str(outer))


def check_runs_go_on_bit_for_bit_wherever_they_were_cut():
    for outer in OUTERS:
        whole, *_ = ours_on_this_process(outer, 10)
        same, saved, _ = ours_on_this_process(outer, 10, save=True)
        assert np.array_equal(same, whole), "saving changed the run"
        for begin in saved[:8]:
            rest, *_ = ours_on_this_process(outer, 10, begin=begin)
            assert np.array_equal(rest, whole[begin["done"] :]), (outer, begin["done"])


def check_every_rank_ends_with_the_same_model():
    for outer in [*OUTERS, Silent()]:
        net = plain_net()
        optimizer = sgd(net)
        communication = Communication(net, optimizer, [outer])
        train(net, [optimizer], 8)
        with communication.view():
            shown = flat(net)
            assert same_everywhere(net)
        communication.finish()
        assert same_everywhere(net)
        if not isinstance(outer, CO2):  # which still has a window under way
            torch.testing.assert_close(flat(net), shown)
        before, counted = flat(net), communication.wire.traffic.messages
        communication.finish()
        with communication.view():
            assert torch.equal(flat(net), before)
        assert communication.wire.traffic.messages == counted


def check_a_view_gives_everyone_their_own_back():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = sgd(net)
    communication = Communication(net, optimizer, [LocalSGD(100)])
    train(net, [optimizer], 3)
    before = copy.deepcopy(net.state_dict())
    counted = communication.wire.traffic.state_dict()
    assert not same_everywhere(net)
    own = everyone(before)
    with communication.view() as shown:
        assert shown is net
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (own[0][name] + own[1][name]) / 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert communication.wire.traffic.state_dict() == counted, "evaluation is no traffic of the training"


def check_buffers_begin_and_end_the_same():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    net[1].running_mean.fill_(float(rank()))
    net.register_buffer("flags", torch.tensor([True, False, rank() == 0]))
    optimizer = sgd(net)
    communication = Communication(net, optimizer)
    assert same_everywhere(net)
    assert net.flags.tolist() == [True, False, True]
    train(net, [optimizer], 3)
    assert not same_everywhere(net), "running statistics are each worker's own"
    communication.finish()
    assert same_everywhere(net)
    assert int(net[1].num_batches_tracked) == 3


class Branches(nn.Module):
    """A net whose first branch rank 0 alone uses, whose second nobody, and whose third everyone."""

    def __init__(self, late=None):
        super().__init__()
        torch.manual_seed(3)
        self.mine, self.nobodys, self.ours = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)
        self.step, self.late = 0, late

    def forward(self, x):
        self.step += 1
        made = self.ours(x)
        if rank() == 0:
            made = made + self.mine(x)
        if self.late is not None and self.step > self.late:
            made = made + self.nobodys(x)
        return made


def check_parameters_without_gradients():
    net = Branches()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.5)
    before = net.nobodys.weight.detach().clone()
    Communication(net, optimizer)
    train(net, [optimizer], 3)
    assert torch.equal(net.nobodys.weight, before), "no decay where no worker has a gradient"
    assert net.nobodys.weight.grad is None
    assert same_everywhere(net)


def check_gradients_that_come_late():
    net = Branches(late=2)
    optimizer = sgd(net)
    communication = Communication(net, optimizer)
    reference_net = Branches(late=2)
    other = sgd(reference_net)
    train(net, [optimizer], 5)
    train(DistributedDataParallel(reference_net, find_unused_parameters=True), [other], 5)
    assert torch.equal(flat(net), flat(reference_net))
    assert same_everywhere(net)
    assert communication.wire.traffic.messages == 5 + 2, "workers ask at the first step, and when one has new gradients"


def check_two_optimizers():
    ours, theirs = plain_net(), plain_net()
    wrapped = DistributedDataParallel(theirs)
    pairs = []
    for net in (ours, theirs):
        matrices = [p for p in net.parameters() if p.ndim == 2]
        vectors = [p for p in net.parameters() if p.ndim == 1]
        pairs.append([sooner.update.Muon(matrices), torch.optim.AdamW(vectors, lr=0.01)])
    Communication(ours, pairs[0])
    train(ours, pairs[0], 5)
    train(wrapped, pairs[1], 5)
    assert torch.equal(flat(ours), flat(theirs))


class Odd(nn.Module):
    """Tied, frozen and non-contiguous parameters, one of them in half precision."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(rank())
        self.inner, self.outer = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.outer.weight = self.inner.weight
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.turned = nn.Parameter(torch.randn(2, 4).t())
        self.low = nn.Parameter(torch.randn(2).bfloat16())

    def forward(self, x):
        return self.outer(self.inner(x) + self.frozen) @ self.turned + self.low.float()


def check_odd_parameters():
    net, reference_net = Odd(), Odd()
    optimizers = [sgd(net), sgd(reference_net)]
    Communication(net, optimizers[0])
    wrapped = DistributedDataParallel(reference_net)
    assert not net.turned.is_contiguous()
    train(net, optimizers[:1], 4)
    train(wrapped, optimizers[1:], 4)
    assert same_everywhere(net)
    torch.testing.assert_close(flat(net), flat(reference_net), rtol=1e-2, atol=1e-2)
    assert net.low.grad is None or net.low.grad.dtype == torch.bfloat16


def check_half_precision_weights_keep_what_a_window_adds_to_them():
    """One worker moves by a unit in the last place, the other rests: their mean moves by half of one every time."""
    net = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(net.weight, 1.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    communication = Communication(net, optimizer, [LocalSGD(1)])
    for _ in range(8):
        net.weight.grad = torch.full_like(net.weight, -(2**-7) if rank() else 0.0)
        optimizer.step()
    assert float(net.weight) == 1 + 8 * 2**-8
    assert communication.state_dict()["slow"].dtype == torch.float32


def check_closures():
    net = plain_net()
    optimizer = sgd(net)
    communication = Communication(net, optimizer)
    assert "SGD.step got a closure" in refused(lambda: optimizer.step(lambda: 0.0))
    communication.detach()
    net = plain_net()
    optimizer = sooner.update.AdamW(net)
    Communication(net, optimizer)
    x, y = data(0, rank())
    nn.functional.mse_loss(net(x), y).backward()
    optimizer.step(Objective(net, lambda net, batch: 0.0, [None]))  # which is not evaluated: gradients are there


def refused(make):
    try:
        make()
    except SoonerError as error:
        text = str(error)
    else:
        text = ""
    first, second = everyone(text)
    assert first == second, "all ranks say the same"
    return first


def check_ranks_that_disagree():
    wide = nn.Linear(4, 2 + rank())
    text = refused(lambda: Communication(wide, sgd(wide)))
    assert "rank 1 is about to train something else than rank 0: parameter weight is [3, 4]" in text
    assert "[2, 4] torch.float32 on rank 0" in text
    net = plain_net()
    text = refused(lambda: Communication(net, sgd(net), [LocalSGD(5 + rank())]))
    assert "part is LocalSGD(every=6) there and LocalSGD(every=5) on rank 0" in text
    text = refused(lambda: Communication(net, sgd(net), [FP16()] if rank() else []))
    assert "part is FP16() there and absent on rank 0" in text
    net[0].weight.requires_grad_(rank() == 0)
    assert "frozen there" in refused(lambda: Communication(net, sgd(net)))
    net = plain_net()
    parts = [LocalSGD(5), DiLoCo(5)] if rank() else [LocalSGD(5)]
    assert refused(lambda: Communication(net, sgd(net), parts)).startswith("rank 1: LocalSGD and DiLoCo")
    with unittest.mock.patch("sooner.communication._agree.__version__", f"0.{rank()}"):
        text = refused(lambda: Communication(net, sgd(net)))
    assert "version of sooner is 0.1 there and 0.0 on rank 0" in text


def check_a_window_longer_than_the_run():
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger("sooner.communication._notes").addHandler(handler)
    net = plain_net()
    optimizer = sgd(net)
    communication = Communication(net, optimizer, [LocalSGD(50)], steps=4)
    words = "local_sgd: every=50 is more than the 4 steps of the run, so that weights are averaged only at its end"
    assert heard == ([words] if rank() == 0 else [])
    train(net, [optimizer], 4)
    assert not same_everywhere(net)
    mean = sum(everyone(flat(net))) / 2
    communication.finish()
    torch.testing.assert_close(flat(net), mean, rtol=1e-6, atol=1e-7)


def check_local_parts():
    net, by_hand = plain_net(), plain_net()
    optimizer = sgd(net)
    Communication(net, optimizer, [LocalSGD(3), Proximal(0.5)])
    Communication(by_hand, other := sgd(by_hand), [LocalSGD(3)])
    anchors = None
    for step in range(7):
        if step % 3 == 0:
            anchors = [p.detach().clone() for p in by_hand.parameters()]

        def pull(anchors=anchors):
            for p, anchor in zip(by_hand.parameters(), anchors, strict=True):
                p.grad += 0.5 * (p.detach() - anchor)

        train(net, [optimizer], step + 1, step)
        train(by_hand, [other], step + 1, step, before=pull)
    torch.testing.assert_close(flat(net), flat(by_hand), rtol=1e-5, atol=1e-6)

    net, by_hand = plain_net(), plain_net()
    optimizer, other = torch.optim.Adam(net.parameters(), lr=0.05), torch.optim.Adam(by_hand.parameters(), lr=0.05)
    Communication(net, optimizer, [LocalSGD(100), FedHyperClients("CL", share=0)])
    Communication(by_hand, other, [LocalSGD(100)])
    rate, last = 1.0, None
    for step in range(5):
        before = flat(by_hand)
        other.param_groups[0]["lr"] = 0.05 * rate
        train(net, [optimizer], step + 1, step)
        train(by_hand, [other], step + 1, step)
        moved = flat(by_hand) - before
        if last is not None:
            rate = min(max(rate * min(1.1, 1 + float(moved @ last)), 0.1), 10)
        last = moved
    assert rate != 1
    torch.testing.assert_close(flat(net), flat(by_hand), rtol=1e-4, atol=1e-5)


def check_rates_set_by_the_server_last():
    net, by_hand = plain_net(), plain_net()
    optimizer, other = sgd(net), sgd(by_hand)
    Communication(net, optimizer, [LocalSGD(2), FedHyperClients("SL", base=0.01)])
    Communication(by_hand, other, [LocalSGD(2)])
    rate, before, last = 1.0, flat(by_hand), torch.zeros(58).double()
    rates = []
    for round_ in range(5):
        train(net, [optimizer], 2 * round_ + 2, 2 * round_)
        other.param_groups[0]["lr"] = 0.1 * rate
        train(by_hand, [other], 2 * round_ + 2, 2 * round_)
        moved = flat(by_hand) - before
        rate = min(max(rate + float(last @ moved) / 0.01, 0.1), 10)
        last, before = moved, flat(by_hand)
        rates.append(rate)
    assert len({round(r, 6) for r in rates}) > 3
    torch.testing.assert_close(flat(net), flat(by_hand), rtol=1e-4, atol=1e-5)


def check_what_is_under_way_is_a_copy():
    v = torch.full((1000,), 1.0 + rank())
    flight = Group().launch(v)
    v.zero_()
    assert torch.equal(flight.wait(), torch.full((1000,), 1.5))
    v = torch.full((1000,), 1.0 + rank())
    Group().launch(v).wait()
    assert torch.equal(v, torch.full((1000,), 1.0 + rank()))


def check_compressed_gradients_are_the_simulations():
    net = plain_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    communication = Communication(net, optimizer, [TopK(0.2), EF()])
    simulation = Exchange(communication.layout, Sim(2), TopK(0.2), EF())
    for step in range(4):
        x, y = data(step, rank())
        nn.functional.mse_loss(net(x), y).backward()
        named = {n: p.grad for n, p in net.named_parameters()}
        both = torch.stack(everyone(communication.layout.flatten(named)))
        optimizer.step()
        ours = communication.layout.flatten({n: p.grad for n, p in net.named_parameters()})
        torch.testing.assert_close(ours, simulation(both))
        optimizer.zero_grad()


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.router = nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(2))

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        return sum(weights[:, e : e + 1] * expert(x) for e, expert in enumerate(self.experts))


def check_experts_belong_to_a_worker():
    net = Experts()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    communication = Communication(net, optimizer, [SPES(3, experts="experts.{}.*", merge=0)])
    start = [copy.deepcopy(e.state_dict()) for e in net.experts]
    train(net, [optimizer], 2)
    other = net.experts[1 - rank()]
    assert all(torch.equal(other.state_dict()[n], v) for n, v in start[1 - rank()].items()), "others' experts rest"
    assert not any(p in optimizer.state for p in other.parameters()), "and need no optimizer state"
    train(net, [optimizer], 3, 2)
    assert same_everywhere(net)
    assert not torch.equal(net.experts[0].weight, start[0]["weight"])
    assert communication.wire.traffic.payload_bytes == 4 * (10 + 10), "the router and the own expert"


def check_what_only_a_simulation_can_do_is_refused():
    net = plain_net()
    text = refused(lambda: Communication(net, sgd(net), [LocalSGD(3), SAM()]))
    assert "only a simulated cluster has" in text
    text = refused(lambda: Communication(net, sgd(net), [Proximal()]))
    assert "add an outer part such as local_sgd" in text
    text = refused(lambda: Communication(net, torch.optim.LBFGS(net.parameters())))
    assert "LBFGS finds its gradients inside its own step" in text
    text = refused(lambda: Communication(net, sgd(net), [CO2(3), TopK()]))
    assert "TopK can't go with co2" in text
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = sgd(embedding)
    Communication(embedding, optimizer)
    embedding(torch.tensor([rank()])).sum().backward()
    assert "sparse" in refused(optimizer.step)


def check_states_of_others_are_refused():
    net = plain_net()
    communication = Communication(net, sgd(net), [DiLoCo(3)])
    small = nn.Linear(2, 2)
    other = Communication(small, sgd(small), [DiLoCo(3)])
    assert "an outer part over 6 weights" in refused(lambda: communication.load_state_dict(other.state_dict()))
    dense = Communication(small, sgd(small))
    assert "no outer part" in refused(lambda: communication.load_state_dict(dense.state_dict()))


def check_compressed_gradients_resume():
    def go(begin=None, save_at=None):
        net = plain_net()
        optimizer = sgd(net, momentum=0.9)
        communication = Communication(net, optimizer, [TopK(0.2), EF()])
        done, saved = 0, None
        if begin is not None:
            done = begin["done"]
            net.load_state_dict(begin["net"])
            optimizer.load_state_dict(begin["optimizer"])
            communication.load_state_dict(begin["communication"])
        for step in range(done, 8):
            train(net, [optimizer], step + 1, step)
            if step + 1 == save_at:
                kept = {"net": net, "optimizer": optimizer, "communication": communication}
                saved = copy.deepcopy({name: one.state_dict() for name, one in kept.items()}) | {"done": step + 1}
        return flat(net), saved

    whole, saved = go(save_at=3)
    assert torch.equal(go(saved)[0], whole)


def run_checks(script):
    """Run the functions of a script whose names begin with ``check_``, as one of two ranks."""
    patience = datetime.timedelta(minutes=10)  # so that no process outlives a check that failed on one rank alone
    distributed.init_process_group("gloo", timeout=patience)
    checks = runpy.run_path(script, run_name="checks")
    for name, check in checks.items():
        if not name.startswith("check_"):
            continue
        try:
            check()
            failed = ""
        except Exception:
            failed = traceback.format_exc()
        told = json.dumps({"check": name.removeprefix("check_"), "rank": rank(), "failed": failed})
        sys.stdout.write(told + "\n")
        sys.stdout.flush()
        if any(everyone(failed)):  # the ranks may no longer be at the same place
            break
    distributed.destroy_process_group()


if __name__ == "__main__":
    run_checks(__file__)
