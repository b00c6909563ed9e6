"""Run by test_shards.py with two gloo processes: state in few bits of sharded models, also through a checkpoint."""

import sys

import torch
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sooner.update import AdamW


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def model(sharded):
    """An embedding whose rows do not divide evenly, and matrices of whole blocks per process."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(103, 64), nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64, bias=False))
    if sharded:
        fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    return net


def optimizer_of(net, bits):
    embedding, *others = net.parameters()
    return AdamW([{"params": [embedding], "state_bits": None}, {"params": others}], lr=0.01, state_bits=bits)


def train(net, optimizer, first, last):
    for step in range(first, last):
        x = torch.randint(103, (16,), generator=torch.Generator().manual_seed(step))
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def states(net, optimizer):
    return [{slot: whole(t) for slot, t in optimizer.state[p].items()} for p in net.parameters()]


def main(folder):
    distributed.init_process_group("gloo")
    for bits in (8, 4):
        nets = [model(sharded) for sharded in (True, False)]
        optimizers = [optimizer_of(net, bits) for net in nets]
        for net, optimizer in zip(nets, optimizers, strict=True):
            train(net, optimizer, 0, 3)
        ours, theirs = (states(*one) for one in zip(nets, optimizers, strict=True))
        packed = 0
        for mine, other in zip(ours, theirs, strict=True):
            packed += "exp_avg_scale" in other
            for slot, value in other.items():
                assert mine[slot].dtype == value.dtype, slot
                assert torch.equal(mine[slot], value), slot
        assert packed == 2
        checkpoint.save(get_optimizer_state_dict(nets[0], optimizers[0]), checkpoint_id=f"{folder}/{bits}")
        again = model(sharded=True)
        resumed = optimizer_of(again, bits)
        again.load_state_dict(nets[0].state_dict())
        train(again, resumed, 7, 8)  # so that there is state to load into
        again.load_state_dict(nets[0].state_dict())
        content = get_optimizer_state_dict(again, resumed)
        checkpoint.load(content, checkpoint_id=f"{folder}/{bits}")
        set_optimizer_state_dict(again, resumed, content)
        train(again, resumed, 3, 5)
        train(nets[0], optimizers[0], 3, 5)
        assert all(
            torch.equal(whole(p), whole(q)) for p, q in zip(again.parameters(), nets[0].parameters(), strict=True)
        )
        odd = model(sharded=True)
        uneven = AdamW(odd, state_bits=bits)
        train(odd, uneven, 0, 1)
        assert uneven.state[next(odd.parameters())]["exp_avg"].dtype == torch.float32
        if distributed.get_rank() == 0:
            print(f"{bits} bits", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
