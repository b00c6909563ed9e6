"""Run by test_lazy_sharded.py with two gloo processes: FSDP2 saves lazily and goes on; another model loads it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import sooner
from sooner.memory import LazySaver, _staging


def made(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 501), nn.Tanh(), nn.Linear(501, 1))  # uneven pieces, and one of nothing
    net = fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    return net, sooner.update.AdamW(net, lr=0.1)


def advance(net, optimizer, first, steps):
    for step in range(first, first + steps):
        torch.manual_seed(step)
        net(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def numbers(net):
    return torch.cat([p.full_tensor().detach().flatten() for p in net.parameters()])


def content(net, optimizer):
    model, kept = get_state_dict(net, optimizer)
    return {"model": model, "optimizer": kept}


def main(folder, rank):
    net, optimizer = made(0)
    advance(net, optimizer, 0, 2)
    saver = LazySaver(optimizer, keep=2)
    for number in range(3):
        saver.save(folder / f"step{number}", **content(net, optimizer), step=number)
        advance(net, optimizer, 2, 2) if number == 2 else advance(net, optimizer, 10 + number, 1)
    saver.flush()
    distributed.barrier()
    assert sorted(path.name for path in folder.glob("step*")) == ["step1", "step2"]
    other, resumed = made(1)
    state = {**content(other, resumed), "step": 0}
    load(state, checkpoint_id=folder / "step2")
    set_state_dict(other, resumed, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    assert state["step"] == 2
    advance(other, resumed, 2, 2)
    assert torch.equal(numbers(net), numbers(other))
    # what goes wrong on one process is told on both, and leaves no folder behind
    kept, changed = _staging._copy, optimizer.param_groups[0]["params"][0]

    def late(pairs, ready):
        if rank == 1:
            with torch.no_grad():
                changed.add_(1.0)
        kept(pairs, ready)

    _staging._copy = late
    saver.save(folder / "torn", **content(net, optimizer))
    with pytest.raises(sooner.SoonerError, match="written to before they were copied"):
        saver.flush()
    assert not (folder / "torn").exists()


if __name__ == "__main__":
    meeting, rank, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    main(folder, rank)
    distributed.destroy_process_group()
