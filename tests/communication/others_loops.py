"""Run by test_others_loops.py: two gloo processes attach to models and loops that change, and write what failed."""

import copy
import itertools
from types import SimpleNamespace

import torch
from attached_workers import Experts, data, everyone, flat, rank, refused, run_checks, same_everywhere, sgd
from torch import nn
from torch.amp import GradScaler
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import sooner.update
from sooner.communication import (
    BF16,
    CO2,
    DGC,
    EF,
    EF21,
    FP16,
    SNOO,
    DiLoCo,
    EControl,
    EF21Momentum,
    Exchange,
    FedHyperClients,
    Group,
    Int8,
    LocalSGD,
    NoLoCo,
    PowerSGD,
    Proximal,
    RandomK,
    Sign,
    Sim,
    StreamingDiLoCo,
    TopK,
)
from sooner.communication._attached import Communication
from sooner.error import SoonerError
from sooner.gradient import ClipNorm


def net_of(layers=3, dtype=torch.float64, seed=None):
    torch.manual_seed(rank() if seed is None else seed)
    made = [nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)]
    return nn.Sequential(*made[: 2 * layers - 1]).to(dtype)


def loss_of(net, step, worker):
    x, y = data(step, worker)
    p = next(net.parameters())
    return nn.functional.mse_loss(net(x.to(p.dtype))[:, :2].double(), y.double())


def step_of(net, optimizer, step, **zero):
    loss_of(net, step, rank()).backward()
    optimizer.step()
    optimizer.zero_grad(**zero)


def alone(net, optimizer, step):
    """Take the step that both workers take together, in one process."""
    (sum(loss_of(net, step, worker) for worker in range(2)) / 2).backward()
    optimizer.step()
    optimizer.zero_grad()


def pair(parts=(), make=sgd, layers=3):
    """Return a net with communication, and the same net without, each with its optimizer."""
    net = net_of(layers)
    optimizer = make(net)
    communication = Communication(net, optimizer, parts)
    other = copy.deepcopy(net)
    return net, optimizer, communication, other, make(other)


def check_layers_unfrozen_later_are_taken_in():
    for parts in ((), (FP16(),), (TopK(0.3), EF()), (PowerSGD(1), EF()), (TopK(0.3), EF21())):
        net = net_of()
        net[0].requires_grad_(False)
        optimizer = sgd(net, momentum=0.9)
        communication = Communication(net, optimizer, parts)
        other = copy.deepcopy(net)
        reference = sgd(other, momentum=0.9)
        for step in range(6):
            if step == 3:
                for one in (net, other):
                    one[0].requires_grad_(True)
                    one[4].requires_grad_(False)
            step_of(net, optimizer, step)
            alone(other, reference, step)
        assert "0.weight" in communication.layout.shapes, parts
        assert same_everywhere(net), parts
        assert net[4].weight.grad is None, parts
        if not parts:
            torch.testing.assert_close(flat(net), flat(other), rtol=1e-12, atol=1e-14)


def check_memories_go_along_with_their_parameters():
    net = net_of()
    net[0].requires_grad_(False)
    optimizer = sgd(net)
    communication = Communication(net, optimizer, [TopK(0.1), EF()])
    step_of(net, optimizer, 0)
    before = {
        n: v.clone() for n, v in communication.layout.views(communication.exchange.state["memory"]["error"]).items()
    }
    net[0].requires_grad_(True)
    communication._follow()
    after = communication.layout.views(communication.exchange.state["memory"]["error"])
    assert all(torch.equal(after[n], v) for n, v in before.items())
    assert any(v.any() for v in before.values())
    assert not after["0.weight"].any()


def check_outer_parts_follow():
    outers = (LocalSGD(2), DiLoCo(2), CO2(2, momentum=0.3), NoLoCo(2), SNOO(2))
    for parts in [(one,) for one in outers] + [(LocalSGD(2), Proximal(0.1)), (LocalSGD(2), FedHyperClients("CL"))]:
        net = net_of()
        net[0].requires_grad_(False)
        optimizer = sgd(net)
        communication = Communication(net, optimizer, parts)
        begun = net[0].weight.detach().clone()
        for step in range(8):
            if step == 3:
                net[0].requires_grad_(True)
                net[4].requires_grad_(False)
                frozen = net[4].weight.detach().clone()
            step_of(net, optimizer, step)
        assert not torch.equal(begun, net[0].weight), parts
        assert torch.equal(net[4].weight, frozen), parts
        communication.finish()
        assert torch.equal(*everyone(net[0].weight.detach())), parts
    net = net_of()
    optimizer = sgd(net)
    Communication(net, optimizer, [StreamingDiLoCo(4, fragments=2, delay=1)])
    for step in range(5):
        step_of(net, optimizer, step)
    net[0].requires_grad_(False)
    for _ in range(2):  # it does not go on the second time either
        assert "streaming_diloco has divided" in refused(lambda: step_of(net, optimizer, 5))


def check_what_changes_on_one_rank_only_is_refused_on_all():
    def freeze(net):
        net[0].requires_grad_(False)

    def replace(net):
        net[0].weight = nn.Parameter(net[0].weight.detach().clone())

    def cast(net):
        net.float()

    def resize(net):
        net[0].weight.data = net[0].weight.data[:, :2].clone()

    def tie(net):
        net[2].weight = net[0].weight

    def add(net):
        net.append(nn.Linear(2, 2))

    words = (
        "was frozen",
        "was replaced",
        "has another type",
        "has another shape",
        "no longer there or tied",
        "new one",
    )
    for (change, text), parts in itertools.product(
        zip((freeze, replace, cast, resize, tie, add), words, strict=True), ((), (TopK(0.3), EF()), (LocalSGD(1),))
    ):
        net = net_of()
        optimizer = sgd(net)
        Communication(net, optimizer, parts)
        step_of(net, optimizer, 0)
        loss_of(net, 1, rank()).backward()
        if rank():
            change(net)
            if change is not freeze:
                optimizer.zero_grad()
        found = refused(optimizer.step)
        assert text in found, (parts, found)
        assert "on rank 1 and not on all ranks" in found, (parts, found)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding, self.head = nn.Embedding(4, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))


def check_replaced_parameters_begin_the_same():
    """A vocabulary grows by rows that every worker draws for itself."""
    for parts in ((), (DiLoCo(2),), (PowerSGD(1), EF())):
        net = Words()
        optimizer = sgd(net)
        communication = Communication(net, optimizer, parts)
        for step in range(6):
            if step == 2:
                torch.manual_seed(rank())
                wider = nn.Embedding(6, 3)
                with torch.no_grad():
                    wider.weight[:4] = net.embedding.weight
                net.embedding = wider
                optimizer.param_groups[0]["params"][0] = wider.weight
            net(torch.tensor([[0, 1, 4 % len(net.embedding.weight)], [2, rank(), 3]])).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        communication.finish()
        assert same_everywhere(net), parts


def check_casts_are_followed():
    for parts in ((), (TopK(0.3), EF()), (PowerSGD(1), EF21Momentum()), (LocalSGD(2),), (CO2(2), FP16())):
        net = net_of(dtype=torch.float32)
        net.register_buffer("statistics", torch.full((3,), float(rank())))
        optimizer = sgd(net)
        communication = Communication(net, optimizer, parts)
        for step, dtype in enumerate((torch.float32, torch.float64, torch.bfloat16, torch.float32)):
            net.to(dtype)
            optimizer.zero_grad()
            step_of(net, optimizer, step)
            assert all(p.dtype == dtype for p in net.parameters())
        net.statistics.fill_(float(rank()))
        communication.finish()
        assert same_everywhere(net), parts
        assert torch.equal(net.statistics, torch.full((3,), 0.5)), "the buffers of now, not those of the beginning"


def check_ties():
    net, optimizer, _, other, reference = pair()
    for step in range(4):
        if step == 2:
            for one in (net, other):
                one[2].weight = one[0].weight
        step_of(net, optimizer, step)
        alone(other, reference, step)
    torch.testing.assert_close(flat(net), flat(other), rtol=1e-12, atol=1e-14)


def check_parameters_that_nobody_averages_are_refused():
    net, head = net_of(), nn.Linear(2, 2)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
    assert "an optimizer holds a parameter" in refused(lambda: Communication(net, optimizer))
    for late in range(2):
        net = net_of()
        optimizer = sgd(net)
        Communication(net, optimizer)
        step_of(net, optimizer, 0)
        if late == 0 or rank():
            optimizer.add_param_group({"params": head.parameters()})
            head.weight.grad = torch.ones(2, 2)
        text = refused(lambda: step_of(net, optimizer, 1))
        assert text.startswith("rank 1: an optimizer holds" if late else "an optimizer holds"), text
    net = net_of()
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    Communication(net, optimizer)
    step_of(net, optimizer, 0)
    optimizer.add_param_group({"params": net[0].requires_grad_(True).parameters()})
    step_of(net, optimizer, 1)
    assert same_everywhere(net)


def check_gradients_of_some_ranks_at_some_steps():
    """Experts that are used now and then: as in one process, where those that nobody uses keep no gradient."""

    def loss(net, step, worker):
        x, y = data(step, worker)
        used = [e for e in range(2) if (step + e * worker) % 3]
        if not used:
            return net.router(x).square().mean()
        made = net.router(x)
        return nn.functional.mse_loss(sum((net.experts[e](x) for e in used), made), y)

    for look in (False, True):
        net = Experts()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.5)
        communication = Communication(net, optimizer, look_every_step=look)
        other = copy.deepcopy(net)
        reference = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.5)
        for step in range(9):
            loss(net, step, rank()).backward()
            optimizer.step()
            optimizer.zero_grad()
            (sum(loss(other, step, worker) for worker in range(2)) / 2).backward()
            reference.step()
            reference.zero_grad()
            assert same_everywhere(net), step
        torch.testing.assert_close(flat(net), flat(other), rtol=1e-5, atol=1e-7)
        asked = communication.wire.traffic.messages - 9
        assert asked <= 9, "at most once a step"
        for step in range(9, 12):  # the same experts as at the step before
            loss(net, 8, rank()).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert communication.wire.traffic.messages - asked - 12 == (3 if look else 0)


def check_copies():
    for parts in ((), (TopK(0.3), EF()), (DiLoCo(2),), (LocalSGD(2), FedHyperClients("CL"))):
        net, optimizer, communication, _, _ = pair(parts)
        step_of(net, optimizer, 0)
        twin, second, copied = copy.deepcopy((net, optimizer, communication))
        for step in range(1, 5):
            step_of(net, optimizer, step)
            step_of(twin, second, step)
        assert copied.parameters["0.weight"] is twin[0].weight
        asked = copied.wire.traffic.messages - communication.wire.traffic.messages
        assert asked == 0
        for one in (communication, copied):
            one.finish()
        assert torch.equal(flat(net), flat(twin)), parts
        assert same_everywhere(twin), parts


def sent_by(run):
    """Return the bytes that leave this process, counted in torch's own collectives, while `run` runs."""
    with torch.profiler.profile(record_shapes=True) as profile:
        run()
    return sum(
        4 * torch.Size(event.input_shapes[0]).numel()
        for event in profile.events()
        if event.name in ("gloo:all_reduce", "gloo:allreduce") and event.input_shapes and event.input_shapes[0]
    )


def check_models_wrapped_in_ddp_are_refused():
    for wrap in (lambda m: m, lambda m: torch.compile(m, backend="eager"), lambda m: nn.Sequential(m)):
        wrapped = wrap(DistributedDataParallel(net_of()))
        assert "wrapped in DistributedDataParallel" in refused(lambda w=wrapped: Communication(w, sgd(w)))
    for outside in (False, True):
        for before in (False, True):
            net = net_of()
            ddp = DistributedDataParallel(nn.Sequential(net) if outside else net) if before else None
            optimizer = sgd(net)
            Communication(net, optimizer, [TopK(0.1), EF()])
            ddp = ddp or DistributedDataParallel(nn.Sequential(net) if outside else net)
            step_of(net, optimizer, 0)  # not through the wrapper
            loss_of(ddp, 1, rank()).backward()
            assert "wrapped in DistributedDataParallel too" in refused(optimizer.step)
            optimizer.zero_grad()
            ddp.require_backward_grad_sync = False
            step_of(ddp, optimizer, 2)
            with ddp.no_sync():
                step_of(ddp, optimizer, 3)
            assert same_everywhere(net)
            del ddp
    net = net_of()
    fully_shard(net)
    assert "the model is sharded (FSDP)" in refused(lambda: Communication(net, sgd(net)))
    net = net_of()
    optimizer = sgd(net)
    Communication(net, optimizer)
    fully_shard(net)
    assert "the model is sharded (FSDP)" in refused(optimizer.step)


def check_bytes_of_a_wrapped_model():
    torch.manual_seed(0)
    for wrapped in (False, True):
        net = nn.Linear(100, 100)
        optimizer = sgd(net)
        communication = Communication(net, optimizer, [TopK(0.01), EF()])
        model = net
        if wrapped:
            model = DistributedDataParallel(net)
            model.require_backward_grad_sync = False

        def steps(model=model, optimizer=optimizer):
            for step in range(3):
                model(torch.randn(4, 100)).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()

        steps()
        assert sent_by(steps) < 4 * 100 * 100, "all gradients of one step are more than three steps may send"
        assert communication.wire.traffic.wire_bytes < 10 * 100 * 100
    ddp = DistributedDataParallel(nn.Linear(100, 100))
    optimizer = sgd(ddp)

    def steps_of_ddp():
        for _ in range(3):
            ddp(torch.randn(4, 100)).square().mean().backward()
            optimizer.step()

    steps_of_ddp()
    assert sent_by(steps_of_ddp) > 3 * 4 * 100 * 100, "what is counted counts"


def check_averages_come_before_clipping():
    def clipped(make, first, several):
        p, q = (nn.Parameter(torch.zeros(2)) for _ in range(2))
        model = nn.ParameterList([p, q])
        optimizers = [make([p]), make([q])] if several else [make([p, q])]
        given = optimizers if several else optimizers[0]
        if first:
            ClipNorm(given, max_norm=1.0)
        Communication(model, given)
        if not first:
            ClipNorm(given, max_norm=1.0)
        p.grad = torch.tensor([10.0, 0.0] if rank() else [0.0, 1.0])
        q.grad = torch.zeros(2)
        for one in optimizers:
            one.step()
        return -p.detach()

    makers = [
        lambda params: torch.optim.SGD(params, lr=1.0),
        lambda params: torch.optim.SGD(params, lr=1.0, fused=True),
        lambda params: sooner.update.SGD(params, lr=1.0),
    ]
    for make, first, several in itertools.product(makers, (True, False), (True, False)):
        found = clipped(make, first, several)
        torch.testing.assert_close(found, torch.tensor([5.0, 0.5]) / (25.25**0.5 + 1e-6), msg=str((first, several)))


def check_gradient_scalers():
    """Rank 1 alone meets an infinity at the second step: all leave that step out, and all scales are halved."""
    for fused in (False, True):
        net = net_of(dtype=torch.float32)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
        communication = Communication(net, optimizer)
        scaler = GradScaler("cpu", init_scale=8.0, growth_interval=100)
        loss = scaler.scale(loss_of(net, 0, rank()))
        loss.backward()
        assert "call communication.average_gradients() before" in refused(lambda s=scaler, o=optimizer: s.step(o))
        communication.detach()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
        optimizer.zero_grad()
        communication = Communication(net, optimizer)
        scaler = GradScaler("cpu", init_scale=8.0, growth_interval=100)
        other = copy.deepcopy(net)
        reference = torch.optim.SGD(other.parameters(), lr=0.1)
        for step in range(4):
            scaler.scale(loss_of(net, step, rank())).backward()
            if step == 1 and rank():
                net[0].weight.grad[0, 0] = torch.inf
            communication.average_gradients()
            if step % 2:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if step != 1:
                alone(other, reference, step)
        assert scaler.get_scale() == 4.0
        assert same_everywhere(net)
        torch.testing.assert_close(flat(net), flat(other), rtol=1e-5, atol=1e-6)
        off = GradScaler("cpu", enabled=False)
        loss_of(net, 5, rank()).backward()
        off.step(optimizer)
        assert same_everywhere(net)
    net = net_of(dtype=torch.float32)
    optimizer = sgd(net)
    Communication(net, optimizer, [LocalSGD(3)])
    scaler = GradScaler("cpu", init_scale=8.0)
    scaler.scale(loss_of(net, 0, rank())).backward()
    assert "leaves out steps of one worker alone" in refused(lambda: scaler.step(optimizer))


def check_steps_that_are_not_taken():
    for none in (True, False):
        net, optimizer, communication, other, reference = pair((), lambda n: sgd(n, momentum=0.9))
        for step in range(6):
            loss_of(net, step, rank()).backward()
            if step % 2:
                communication.average_gradients()
                nn.utils.clip_grad_norm_(net.parameters(), 1e9)
                communication.average_gradients()
                optimizer.zero_grad(set_to_none=none)
                continue
            optimizer.step()
            optimizer.zero_grad(set_to_none=none)
            alone(other, reference, step)
        torch.testing.assert_close(flat(net), flat(other), rtol=1e-12, atol=1e-14)


def check_gradients_added_up_over_steps_that_are_not_taken():
    net, optimizer, communication, other, reference = pair()
    for step in range(3):
        loss_of(net, step, rank()).backward()
        communication.average_gradients()  # to look at them, in the middle of an accumulation
        sum(loss_of(other, step, worker) / 2 for worker in range(2)).backward()
    optimizer.step()
    reference.step()
    torch.testing.assert_close(flat(net), flat(other), rtol=1e-12, atol=1e-14)


def check_exceptions_in_a_step():
    net, optimizer, _, other, reference = pair()

    def fail(*_):
        raise ZeroDivisionError

    handle = optimizer.register_step_pre_hook(fail)
    loss_of(net, 0, rank()).backward()
    try:
        optimizer.step()
    except ZeroDivisionError:
        handle.remove()
        optimizer.zero_grad()
    for step in range(3):
        step_of(net, optimizer, step)
        alone(other, reference, step)
    torch.testing.assert_close(flat(net), flat(other), rtol=1e-12, atol=1e-14)


def check_optimizers_that_step_in_turn():
    """Two nets as in adversarial training: the second optimizer steps on gradients of a backward pass of its own."""
    nets = [net_of(1), net_of(1)]
    both = nn.ModuleList(nets)
    optimizers = [sgd(net) for net in nets]
    Communication(both, optimizers)
    twins = copy.deepcopy(nets)
    references = [sgd(net) for net in twins]
    for step in range(8):
        for i in (0, 1) if step % 3 else (1,):
            step_of(nets[i], optimizers[i], step)
            alone(twins[i], references[i], step)
    for net, twin in zip(nets, twins, strict=True):
        torch.testing.assert_close(flat(net), flat(twin), rtol=1e-12, atol=1e-14)


def check_wrapped_optimizers():
    net = net_of()
    optimizer = sgd(net)
    outer = SimpleNamespace(optimizer=SimpleNamespace(optimizer=optimizer))
    outer.optimizer = type("Inner", (torch.optim.Optimizer,), {"__init__": lambda self: None})()
    outer.optimizer.optimizer = optimizer
    other = copy.deepcopy(net)
    reference = sgd(other)
    Communication(net, outer)
    nn.Module.load_state_dict(other, net.state_dict())
    step_of(net, optimizer, 0)
    alone(other, reference, 0)
    torch.testing.assert_close(flat(net), flat(other), rtol=1e-12, atol=1e-14)
    assert "SimpleNamespace is no optimizer" in refused(lambda: Communication(net, SimpleNamespace()))


class Zoo(nn.Module):
    """Every kind of parameter there is, and a gradient for some on one worker only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.scalar = nn.Parameter(torch.tensor(0.5))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.matrix = nn.Parameter(torch.randn(6, 5))
        self.tied = self.matrix
        self.turned = nn.Parameter(torch.randn(5, 6).t())
        self.images = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
        self.low = nn.Parameter(torch.randn(5).bfloat16())
        self.wide_gradient = nn.Parameter(torch.randn(5).bfloat16())
        self.wide_gradient.grad_dtype = torch.float32
        self.narrow_gradient = nn.Parameter(torch.randn(5))
        self.narrow_gradient.grad_dtype = torch.bfloat16
        self.any_gradient = nn.Parameter(torch.randn(5).bfloat16())
        self.any_gradient.grad_dtype = None
        self.mine, self.nobodys = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(3))


CODECS = [
    (),
    (FP16(),),
    (BF16(),),
    (Int8(),),
    (Sign(), EF()),
    (TopK(0.2), EF()),
    (TopK(0.2), EF21()),
    (TopK(0.2), EF21Momentum()),
    (TopK(0.2), EControl()),
    (RandomK(0.3), EF()),
    (PowerSGD(2), EF()),
    (DGC(),),
]


def check_every_kind_of_parameter_through_every_codec():
    for parts in CODECS:
        net = Zoo()
        optimizer = sgd(net)
        communication = Communication(net, optimizer, parts)
        codec = next((p for p in parts if hasattr(p, "encode")), None)
        memory = next((p for p in parts if hasattr(p, "outgoing")), None)
        simulation = Exchange(communication.layout, Sim(2), codec, memory)
        for step in range(3):
            torch.manual_seed(10 * step + rank())
            sent = {}
            for name, p in net.named_parameters():
                kind = torch.float32 if p.grad_dtype is None else p.grad_dtype
                g = torch.randn(p.shape).to(kind)
                g = g.t().contiguous().t() if g.ndim == 2 and step == 1 else g  # strides are not the parameter's
                has = name != "nobodys" and (name != "mine" or rank() == 0)
                p.grad = g if has else None
                sent[name] = g.float() if has else torch.zeros(p.shape)
            expected = simulation(torch.stack(everyone(communication.layout.flatten(sent))))
            communication.average_gradients()
            for name, want in communication.layout.views(expected).items():
                p = dict(net.named_parameters())[name]
                if name == "nobodys":
                    assert p.grad is None
                    continue
                assert p.grad.dtype == (torch.float32 if p.grad_dtype is None else p.grad_dtype), (name, parts)
                torch.testing.assert_close(p.grad.float(), want.to(p.grad.dtype).float(), msg=f"{name} {parts}")
            optimizer.step()
            assert torch.equal(*everyone(torch.cat([p.detach().float().flatten() for p in net.parameters()])))


def check_complex_parameters_are_refused():
    net = nn.ParameterDict({"phase": nn.Parameter(torch.zeros(2, dtype=torch.complex64))})
    assert "parameter phase is torch.complex64" in refused(lambda: Communication(net, sgd(net)))


def check_states_by_name():
    """What a compiled model with its layers in another order has saved is found by name."""

    class Two(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            torch.manual_seed(0)
            for name in (first, second):
                setattr(self, name, nn.Linear(2, 2))

        def forward(self, x):
            return sum(getattr(self, n)(x * k) for n, k in (("a", 1), ("b", 2)))

    for parts in ((TopK(0.2), EF()), (DiLoCo(3),)):
        nets = [torch.compile(Two("a", "b"), backend="eager"), Two("b", "a")]
        nets[1].load_state_dict(nets[0]._orig_mod.state_dict())
        optimizers = [sgd(net) for net in nets]
        first = Communication(nets[0], optimizers[0], parts)

        def go(net, optimizer, step):
            net(data(step, rank(), 2)[0]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        for step in range(4):
            go(nets[0], optimizers[0], step)
        state = copy.deepcopy(first.state_dict())
        second = Communication(nets[1], optimizers[1], parts)
        nets[1].load_state_dict(nets[0]._orig_mod.state_dict())
        second.load_state_dict(state)
        for step in range(4, 8):
            for net, optimizer in zip(nets, optimizers, strict=True):
                go(net, optimizer, step)
        ours, theirs = nets[1].state_dict(), nets[0]._orig_mod.state_dict()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-7)
        other = Communication(twin := Two("a", "c"), sgd(twin), parts)
        assert "parameter b.weight is [2, 2] there and not trained here" in refused(
            lambda c=other, s=state: c.load_state_dict(s)
        )


def check_ranks_that_finish_at_different_steps():
    """The last check: an exchange that nobody comes to is under way afterwards."""
    for parts in ((), (TopK(0.3), EF()), (LocalSGD(2),)):
        wire = Group(torch.distributed.new_group([0, 1]))
        net = net_of()
        optimizer = sgd(net)
        communication = Communication(net, optimizer, parts, wire)
        for step in range(3 + 2 * rank()):
            try:
                step_of(net, optimizer, step)
                text = ""
            except SoonerError as error:
                text = str(error)
                break
        if not text:
            try:
                communication.finish()
            except SoonerError as error:
                text = str(error)
        words = {"average gradients", "take an outer step"}
        assert any(f"some ranks {one} while others finish" in text for one in words), (parts, text)


if __name__ == "__main__":
    run_checks(__file__)
