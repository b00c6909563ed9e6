"""The average follows its model through whatever is done to it, and refuses what has no right answer."""

import copy
import gc
import logging
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations

import sooner
from sooner.weights import EMA

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def pair():
    return nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))


def fill(net, value):
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.fill_(value + 10 * i)


def shown(ema, net):
    """The average of the first number of each parameter."""
    with ema.view():
        return [round(p.detach().flatten()[0].item(), 4) for p in net.parameters()]


def averaged(*values, decay=0.5):
    """The average of values, the last one newest, from the definition."""
    shares = [decay ** (len(values) - 1 - i) for i in range(len(values))]
    return round(sum(s * v for s, v in zip(shares, values, strict=True)) / sum(shares), 4)


def assign(net):
    net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()}, assign=True)


def data(net):
    for p in net.parameters():
        p.data = p.detach().clone()


def replaced(net):
    net[0].weight, net[1].weight = (nn.Parameter(layer.weight.detach().clone()) for layer in net)


def new_modules(net):
    for i in range(2):
        old, net[i] = net[i], nn.Linear(2, 2, bias=False, dtype=net[i].weight.dtype)
        net[i].load_state_dict(old.state_dict())


def compiled(net):
    net[0] = torch.compile(net[0], backend="eager")


def compiled_and_assigned(net):
    compiled(net)
    assign(net)


def in_data_parallel(net):
    net[1] = nn.DataParallel(net[1])
    new = nn.Parameter(net[1].module.weight.detach().clone())
    net[1].module.weight = new


def checkpointed(net):
    net[0] = checkpoint_wrapper(net[0])
    assign(net)


def swapped(net):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        net.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


CHANGES = [
    lambda net: None,
    lambda net: net.double(),
    lambda net: net.half(),
    lambda net: net.bfloat16(),
    lambda net: net[1].double(),
    lambda net: net.to(DEVICES[-1]),
    *(assign, data, replaced, new_modules),
    *(compiled, compiled_and_assigned, in_data_parallel, checkpointed, swapped),
]


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_done_to_the_model_changes_nothing(change, after):
    net = pair()
    ema = EMA(net, decay=0.5)
    for step in range(3):
        if step == after:
            change(net)
        fill(net, float(step))
        ema.after_step()
    assert shown(ema, net) == pytest.approx([averaged(0, 1, 2), averaged(10, 11, 12)], rel=2e-2 if step else 0)
    wide = [torch.float64 if p.dtype == torch.float64 else torch.float32 for p in net.parameters()]
    assert [a.dtype for a in ema.state_dict()["averages"].values()] == wide
    assert list(ema.state_dict()["averages"]) == ["0.weight", "1.weight"] or change is in_data_parallel
    assert [p.flatten()[0].item() for p in net.parameters()] == [2, 12]


def test_statistics_are_followed_like_weights():
    net = nn.Sequential(nn.BatchNorm1d(1))
    ema = EMA(net, decay=0.5)
    for step in range(3):
        net.double() if step % 2 else net.float()
        net[0].running_mean = torch.full_like(net[0].running_mean, step)  # assigned, not filled
        if step == 2:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
            ema.model[0] = net[0]
        ema.after_step()
    with ema.view():
        torch.testing.assert_close(net[0].running_mean, torch.tensor([averaged(0, 1, 2)]), rtol=0, atol=1e-4)


def test_layers_taken_out_and_put_in_keep_their_own_averages(caplog):
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(3)))
    ema = EMA(net, decay=0.5)
    for step in range(2):
        fill(net, float(step))
        ema.after_step()
    del net[1]  # what was 2.weight is 1.weight
    with caplog.at_level(logging.WARNING):
        assert shown(ema, net) == [averaged(0, 1), averaged(20, 21)]
    assert "has no 2.weight any more" not in caplog.text
    net.insert(1, nn.Linear(1, 1, bias=False))
    fill(net, 7.0)
    ema.after_step()
    assert shown(ema, net) == [averaged(0, 1, 7), 17, averaged(20, 21, 27)]
    net[0], net[2] = net[2], net[0]
    assert shown(ema, net) == [averaged(20, 21, 27), 17, averaged(0, 1, 7)]
    net.pop(2)
    net.pop(1)
    with caplog.at_level(logging.WARNING):
        assert shown(ema, net) == [averaged(20, 21, 27)]
    assert "the model has no 1.weight, 2.weight any more; what was averaged of it is dropped" in caplog.text


def test_an_average_goes_with_its_module_where_all_tensors_are_new():
    for change in (assign, data, lambda net: net.double()):
        net = nn.Sequential(*(nn.BatchNorm1d(1) for _ in range(3)))
        ema = EMA(net, decay=0.5)
        for step in range(2):
            fill(net, float(step))
            for i in range(3):
                net[i].running_mean.fill_(step + 100 * i)
            ema.after_step()
        change(net)
        del net[0]
        assert shown(ema, net) == [averaged(20, 21), averaged(30, 31), averaged(40, 41), averaged(50, 51)]
        with ema.view():
            assert [round(layer.running_mean.item(), 4) for layer in net] == [averaged(100, 101), averaged(200, 201)]


def test_weights_are_tied_and_untied():
    net = pair()
    ema = EMA(net, decay=0.5)
    fill(net, 1.0)
    ema.after_step()
    net[1].weight = net[0].weight
    fill(net, 2.0)
    ema.after_step()
    assert shown(ema, net) == [averaged(1, 2)]
    net[0].weight = nn.Parameter(net[1].weight.detach().clone())
    fill(net, 3.0)
    ema.after_step()
    assert shown(ema, net) == [averaged(1, 2, 3), averaged(1, 2, 13)]
    net[0].weight = net[1].weight
    with ema.view():
        net[0].weight = nn.Parameter(net[1].weight.detach().clone())
    assert [p.flatten()[0].item() for p in net.parameters()] == [13, 13]
    assert shown(ema, net) == [averaged(1, 2, 13)] * 2


def test_an_unfrozen_weight_begins_its_average_then_and_a_frozen_one_runs_into_its_weight():
    net = pair()
    net[0].requires_grad_(False)
    ema = EMA(net, decay=0.5)
    fill(net, 0.0)
    ema.after_step()
    assert shown(ema, net) == [0, 10]
    assert list(ema.state_dict()["averages"]) == ["1.weight"]
    fill(net, 1.0)
    assert shown(ema, net) == [1, 10]  # a frozen one is on show as it is
    net[0].requires_grad_(True)
    ema.after_step()
    fill(net, 2.0)
    net[0].requires_grad_(False)  # whatever happens later, it is one of them
    ema.after_step()
    assert shown(ema, net) == [averaged(1, 2), averaged(10, 11, 12)]
    state = copy.deepcopy(ema.state_dict())
    assert state["own_steps"] == {"0.weight": 2}
    again = EMA(net, decay=0.5)  # where it is frozen
    assert again.load_state_dict(state) == []
    for one in (ema, again):
        one.after_step()
        assert shown(one, net) == [averaged(1, 2, 2), averaged(10, 11, 12, 12)]
    for _ in range(40):
        ema.after_step()
    assert shown(ema, net) == [2, 12]


def test_a_weight_of_another_shape_is_refused_until_it_starts_anew():
    net = pair()
    ema = EMA(net, decay=0.5)
    fill(net, 1.0)
    ema.after_step()
    before = net[1].weight
    for bad in (nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(1, 2))):
        net[1].weight = bad
        for use in (ema.after_step, ema.view().__enter__):
            with pytest.raises(
                sooner.SoonerError, match=r"1\.weight has the shape \[\d, 2\] now and its average \[2, 2\]"
            ):
                use()
    net[1].weight = before
    before.data = before.data[:1]
    with pytest.raises(
        sooner.SoonerError, match=r"ema\.load_state_dict\(ema\.state_dict\(\), strict=False\) starts it"
    ):
        ema.after_step()
    whole = torch.ones(2, 2)
    before.data = whole
    ema.after_step()
    before.data = whole[:1]
    assert ema.steps == 2
    assert ema.load_state_dict(ema.state_dict(), strict=False) == ["1.weight"]
    fill(net, 2.0)
    ema.after_step()
    fill(net, 3.0)
    ema.after_step()
    assert shown(ema, net) == [averaged(1, 1, 2, 3), averaged(12, 13)]


def test_what_can_not_be_followed_is_refused():
    net = pair()
    ema = EMA(net)
    net.to("meta")
    with pytest.raises(sooner.SoonerError, match=r"0\.weight is on the meta device and has no numbers; give it some"):
        ema.after_step()
    net.to_empty(device="cpu")
    fill(net, 1.0)
    ema.after_step()
    net[0].weight._fsdp_flattened = True  # as FSDP1 marks its pieces
    for use in (ema.view().__enter__, ema.after_step, lambda: EMA(net)):
        with pytest.raises(sooner.SoonerError, match=r"shard the model with torch\.distributed\.fsdp\.fully_shard"):
            use()
    assert list(ema.state_dict()["averages"]) == ["0.weight", "1.weight"]
    net[0], net[1] = nn.Identity(), nn.Identity()
    net.other = nn.Linear(2, 2)
    with pytest.raises(sooner.SoonerError, match="none of the averaged weights any more; make a new EMA"):
        ema.after_step()
    assert list(ema.state_dict()["averages"]) == ["0.weight", "1.weight"]


def test_what_can_not_be_told_apart_is_refused():
    def shortened(net):
        for i in range(3):
            net[i] = copy.deepcopy(net[i])
        del net[0]

    def tied(net):
        assign(net)
        net[0].weight = net[2].weight

    for surgery, names in ((shortened, ["0.weight", "1.weight"]), (tied, ["0.weight", "1.weight"])):
        net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(3)))
        ema = EMA(net, decay=0.5)
        surgery(copy.deepcopy(net))
        fill(net, 1.0)
        ema.after_step()
        surgery(net)
        for use in (ema.after_step, ema.view().__enter__):
            with pytest.raises(
                sooner.SoonerError, match=r"0\.weight was replaced while .* can't be told; .* goes by the"
            ):
                use()
        assert ema.load_state_dict(ema.state_dict(), strict=False) == []
        assert list(ema.state_dict()["averages"]) == names


def test_lazy_weights_come_in_when_they_have_a_shape():
    net = nn.Sequential(nn.LazyLinear(1, bias=False), nn.LazyBatchNorm1d())
    ema = EMA(net, decay=0.5)
    net(torch.ones(2, 2))
    for step in range(3):
        nn.init.constant_(net[0].weight, step)
        ema.after_step()
    with ema.view():
        assert round(net[0].weight[0, 0].item(), 4) == averaged(0, 1, 2)
    assert len(ema.state_dict()["averages"]) == 5
    assert "own_steps" not in ema.state_dict()


def test_a_parametrized_weight_is_averaged_in_its_own_parts():
    net = pair()
    ema = EMA(net, decay=0.5)
    fill(net, 1.0)
    ema.after_step()
    parametrizations.weight_norm(net[0])
    ema.after_step()
    assert set(ema.state_dict()["own_steps"]) == {f"0.parametrizations.weight.original{i}" for i in range(2)}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda what: pickle.loads(pickle.dumps(what))])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_copied_together_the_copy_follows_the_copy(copied, order, wrap):
    net = pair()
    ema = EMA(wrap(net), decay=0.5)
    fill(net, 0.0)
    ema.after_step()
    net2, ema2 = copied((net, ema)[::order])[::order]
    for value in (1.0, 2.0):
        fill(net2, value)
        ema2.after_step()
    assert ema2.model is net2
    assert shown(ema2, net2) == [averaged(0, 1, 2), averaged(10, 11, 12)]
    fill(net, 5.0)
    ema.after_step()
    assert shown(ema, net) == [averaged(0, 5), averaged(10, 15)]


def test_copied_alone_it_goes_on_with_the_same_model():
    net = pair()
    ema = EMA(net, decay=0.5)
    fill(net, 0.0)
    ema.after_step()
    kept = copy.deepcopy(ema)
    fill(net, 1.0)
    ema.after_step()
    assert shown(kept, net) == [0, 10]
    assert shown(ema, net) == [averaged(0, 1), averaged(10, 11)]
    assert kept.model is net
    net.average = ema  # a model may have its average as an attribute
    twin = copy.deepcopy(net)
    assert twin.average.model is twin
    with ema.view(), pytest.raises(sooner.SoonerError, match="leave the view to copy it"):
        copy.deepcopy((net, ema))


def test_a_training_is_copied_with_its_model_and_optimizer():
    training = sooner.Recipe("torch.optim.SGD(lr=0.1) + ema(decay=0.5)").build(pair(), steps=4)

    def steps(one):
        for _ in range(2):
            one.model(torch.ones(1, 2)).sum().backward()
            one.step()
            one.zero_grad()
        with one.view():
            return one.model(torch.ones(1, 2)).sum().item()

    steps(training)
    other = copy.deepcopy(training)
    assert steps(training) == steps(other)


def test_the_view_stands_what_is_done_inside():
    net = pair()
    ema = EMA(net, decay=0.5)
    for value in (1.0, 2.0):
        fill(net, value)
        ema.after_step()
    average = [averaged(1, 2), averaged(11, 12)]
    nn.init.constant_(net[0].weight, 1 / 3)
    with ema.view():
        net.half()  # to export
        net.double()
        with ema.view():
            assign(net)
            compiled(net)
            assert [round(p.flatten()[0].item(), 3) for p in net.parameters()] == [round(a, 3) for a in average]
    assert [p.flatten()[0].item() for p in net.parameters()] == [torch.tensor(1 / 3).item(), 12]
    assert shown(ema, net) == average

    def interrupted():
        with ema.view():
            net[1].weight = nn.Parameter(torch.zeros(1, 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert [p.flatten()[0].item() for p in net.parameters()] == [torch.tensor(1 / 3).item(), 0]
    net[1].weight = nn.Parameter(torch.full((2, 2), 12.0))
    with pytest.raises(sooner.SoonerError, match=r"1\.weight has the shape \[1, 2\] now"), ema.view():
        net[1].weight = nn.Parameter(torch.zeros(1, 2))
    assert net[0].weight[0, 0] == torch.tensor(1 / 3).item()
    net[1].weight = nn.Parameter(torch.full((2, 2), 12.0))
    with ema.view(), pytest.raises(sooner.SoonerError, match="leave the view"):
        ema.load_state_dict(ema.state_dict())


def test_inference_mode_leaves_nothing_behind():
    net = pair()
    ema = EMA(net, decay=0.5)
    for value in (1.0, 2.0):
        fill(net, value)
        with torch.inference_mode():
            ema.after_step()
            with ema.view():
                net(torch.ones(1, 2))
    ema.after_step()
    net(torch.ones(1, 2)).sum().backward()
    assert shown(ema, net) == [averaged(1, 2, 2), averaged(11, 12, 12)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_averages_may_be_kept_on_another_device(device, dtype):
    near, far = (pair().to(device, dtype) for _ in range(2))
    by, away = EMA(near, decay=0.9), EMA(far, decay=0.9, device="cpu")
    for step in range(6):
        for net, ema in ((near, by), (far, away)):
            torch.manual_seed(step)
            with torch.no_grad():
                for p in net.parameters():
                    p.copy_(torch.randn(2, 2))
            ema.after_step()
    ours = by.state_dict()["averages"]
    for name, average in away.state_dict()["averages"].items():
        assert average.device.type == "cpu"
        torch.testing.assert_close(average, ours[name].cpu(), rtol=1e-6, atol=1e-7)
    with by.view(), away.view():
        for p, q in zip(near.parameters(), far.parameters(), strict=True):
            assert p.device == q.device
            torch.testing.assert_close(p.detach(), q.detach())
    by.load_state_dict(away.state_dict())
    assert {average.device for average in by.state_dict()["averages"].values()} == {near[0].weight.device}


def test_a_device_that_keeps_nothing_is_refused():
    with pytest.raises(sooner.SoonerError, match="device='meta' has no memory for averages"):
        EMA(pair(), device="meta")
    for bad in ("cuda:77", "no such"):
        with pytest.raises(sooner.SoonerError, match=f"ema: device='{bad}' can't be used .*; choose another"):
            EMA(pair(), device=bad)
    training = sooner.Recipe("sgd + ema(decay=0.5, device='cpu')").build(pair(), steps=2)
    assert training.others[0].device == torch.device("cpu")


WRAPPERS = {
    "plain": lambda net: net,
    "DDP": nn.DataParallel,  # with the same names, and no processes
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "both": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    "a layer compiled": lambda net: nn.Sequential(torch.compile(net[0], backend="eager"), net[1]),
    "a layer in DDP": lambda net: nn.Sequential(nn.DataParallel(net[0]), net[1]),
    "checkpointed": lambda net: nn.Sequential(checkpoint_wrapper(net[0]), net[1]),
}


@pytest.mark.parametrize("saved", WRAPPERS)
@pytest.mark.parametrize("loaded", WRAPPERS)
def test_states_load_whatever_wraps_the_models(saved, loaded):
    net = pair()
    ema = EMA(WRAPPERS[saved](net), decay=0.5)
    for value in (1.0, 2.0):
        fill(net, value)
        ema.after_step()
    other = WRAPPERS[loaded](pair())
    again = EMA(other, decay=0.5)
    assert again.load_state_dict(ema.state_dict()) == []
    assert shown(again, other) == [averaged(1, 2), averaged(11, 12)]
    assert list(ema.state_dict()["averages"]) == ["0.weight", "1.weight"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_files_of_earlier_versions_load(prefix):
    averages = {f"{prefix}{i}.weight": torch.full((2, 2), float(i)) for i in range(2)}
    net = pair()
    ema = EMA(net, decay=0.5)
    assert ema.load_state_dict({"steps": 3, "averages": averages}) == []
    assert (ema.steps, shown(ema, net)) == (3, [0, 1])
    assert EMA(pair()).load_state_dict({"steps": 0, "averages": {}}) == []


def test_a_state_that_differs_names_what_differs_and_the_prefix():
    ema = EMA(nn.DataParallel(pair()))
    ema.after_step()
    state = ema.state_dict()
    longer = EMA(nn.Sequential(*pair(), nn.Linear(2, 2)))
    with pytest.raises(
        sooner.SoonerError, match=r"differs in 2\.weight, 2\.bias; load its own, or what fits with strict"
    ):
        longer.load_state_dict(state)
    old = {"steps": 1, "averages": {f"module.{name}": value for name, value in state["averages"].items()}}
    with pytest.raises(sooner.SoonerError, match=r"2\.weight, .*prefix 'module\.' of a wrapper, which was left aside"):
        longer.load_state_dict(old)
    foreign = {"steps": 1, "averages": {f"net.{name}": value for name, value in state["averages"].items()}}
    with pytest.raises(sooner.SoonerError, match=r"net\.0\.weight, .*prefix 'net\.' before ours; take it off"):
        EMA(pair()).load_state_dict(foreign)
    for bad in (
        {},
        None,
        {"steps": 1},
        {"steps": 0, "averages": {"0.weight": torch.zeros(1)}},
        {"steps": 1, "averages": 3},
    ):
        with pytest.raises(sooner.SoonerError, match="no state of an EMA"):
            EMA(pair()).load_state_dict(bad)


def test_what_fits_is_kept_and_the_rest_starts_anew(caplog):
    net = pair()
    ema = EMA(net, decay=0.5)
    for value in (1.0, 2.0):
        fill(net, value)
        ema.after_step()
    state = copy.deepcopy(ema.state_dict())
    longer = nn.Sequential(*pair(), nn.Linear(2, 2, bias=False))
    other = EMA(longer, decay=0.5)
    assert other.load_state_dict(state, strict=False) == ["2.weight"]
    for value in (3.0, 4.0):
        fill(longer, value)
        other.after_step()
    assert shown(other, longer) == [averaged(1, 2, 3, 4), averaged(11, 12, 13, 14), averaged(23, 24)]
    assert other.state_dict()["own_steps"] == {"2.weight": 2}
    shorter = pair()[:1]
    one = EMA(shorter, decay=0.5)
    with caplog.at_level(logging.WARNING):
        assert one.load_state_dict(other.state_dict(), strict=False) == []
    assert "no place for the averages of 1.weight, 2.weight; they are left out" in caplog.text
    assert shown(one, shorter) == [averaged(1, 2, 3, 4)]


def test_it_keeps_no_weights_in_memory_that_the_model_has_dropped():
    net = pair()
    ema = EMA(net)
    old = weakref.ref(net[0].weight)
    assign(net)
    gc.collect()
    assert old() is None
    ema.after_step()
    old = weakref.ref(net[0].weight)
    assign(net)
    ema.after_step()
    gc.collect()
    assert old() is None
