"""Run by test_others_touch_gradients.py: two gloo processes go through all checks and write down what failed."""

import datetime
import json
import sys
import traceback

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import sooner
from sooner.communication import Communication
from sooner.error import SoonerError
from sooner.gradient import ClipNorm
from sooner.schedule.refined import NormLog


def rank():
    return distributed.get_rank()


def own_gradient():
    return torch.tensor([[10.0, 0.0]] if rank() else [[0.0, 1.0]])


def expected():
    return torch.tensor([[5.0, 0.5]]) / 25.25**0.5


def check_the_average_is_clipped_whatever_was_made_first():
    for make in (torch.optim.SGD, sooner.update.SGD):
        for first in ("clip", "log", "communication"):
            net = nn.Linear(2, 1, bias=False)
            net.weight.data.zero_()
            optimizer = make(net.parameters(), lr=1.0, momentum=0.0)
            attach = {
                "clip": lambda: ClipNorm(optimizer, max_norm=1.0),
                "log": lambda: NormLog(optimizer),
                "communication": lambda: Communication(net, optimizer),
            }
            made = {name: attach[name]() for name in (first, *(n for n in attach if n != first))}
            net.weight.grad = own_gradient()
            optimizer.step()
            torch.testing.assert_close(-net.weight.detach(), expected())
            torch.testing.assert_close(made["log"].norms(), torch.tensor([25.25**0.5]))
            torch.testing.assert_close(net.weight.grad, torch.tensor([[5.0, 0.5]]))


def check_a_rule_that_two_optimizers_share_sees_the_average_of_both():
    net = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(2))
    for p in net.parameters():
        p.data.zero_()
    optimizers = [torch.optim.SGD(one.parameters(), lr=1.0) for one in net]
    ClipNorm(optimizers, max_norm=1.0)
    Communication(net, optimizers)
    for p, g in zip(net.parameters(), own_gradient()[0], strict=True):
        p.grad = g.view(1, 1).clone()
    for one in optimizers:
        one.step()
    torch.testing.assert_close(-torch.cat([p.detach() for p in net.parameters()], 1), expected())


def check_norms_of_sharded_gradients_are_those_of_the_whole_ones():
    for make in (torch.optim.SGD, sooner.update.SGD):
        nets = []
        for _ in range(2):
            torch.manual_seed(0)
            nets.append(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)))
        fully_shard(nets[1], mesh=init_device_mesh("cpu", (2,)))
        found = []
        for net in nets:
            optimizer = make(net.parameters(), lr=0.1)
            log = NormLog(optimizer, "sgd")
            ClipNorm(optimizer, max_norm=0.01)
            for step in range(2):
                net(torch.full((2, 3), 1.0 + step)).square().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
            found.append(log.norms())
            if make is sooner.update.SGD:
                found[-1] = torch.cat([found[-1], optimizer_norm(net, optimizer)])
        torch.testing.assert_close(found[0], found[1])


def optimizer_norm(net, optimizer):
    net(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    return optimizer.gradient_norm.view(1)


def check_a_scaler_waits_for_the_average():
    for averaged in (False, True):
        net = nn.Linear(2, 1, bias=False)
        training = sooner.Recipe("torch.optim.SGD(lr=1.0) + clip_norm(max_norm=1.0)").build(net, 4)
        net.weight.data.zero_()
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for infinite in (True, False):
            scaler.scale(torch.zeros(()))
            scale = scaler.get_scale()
            net.weight.grad = own_gradient() * scale
            if infinite and rank():
                net.weight.grad[0, 0] = float("inf")
            if averaged:
                training.average_gradients()
                scaler.step(training)
                scaler.update()
                training.zero_grad()
                assert scaler.get_scale() == 512.0  # on both: the infinity of one is in the average
                continue
            with pytest.raises(SoonerError, match=r"call training.average_gradients\(\) before"):
                scaler.step(training)
            break
        torch.testing.assert_close(-net.weight.detach(), expected() if averaged else torch.zeros(1, 2))


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


def main():
    patience = datetime.timedelta(minutes=10)  # so that no process outlives a check that failed on one rank alone
    distributed.init_process_group("gloo", timeout=patience)
    for name, check in CHECKS.items():
        try:
            check()
            failed = ""
        except Exception:
            failed = traceback.format_exc()
        sys.stdout.write(json.dumps({"check": name, "rank": rank(), "failed": failed}) + "\n")
        sys.stdout.flush()
        all_of_them = [None, None]
        distributed.all_gather_object(all_of_them, failed)
        if any(all_of_them):  # the ranks may no longer be at the same place
            break
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
