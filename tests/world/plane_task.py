"""A plane is fitted to points; what is said in FAULT ("how rank step") happens to one rank."""

import os
import signal
import time

import torch
from torch import nn

steps = 24
evaluations = 8
FAULT = os.environ.get("FAULT", "").split()
RANK = os.environ.get("RANK", "0")


def model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 1))


class Batches:
    def __init__(self, seed, count=None):
        self.seed, self.count = seed, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.count is None and FAULT and FAULT[1] == RANK and int(FAULT[2]) == index:
            fault(FAULT[0])
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(self.seed % 1_000_003 + index))
        return x, x.sum(1, keepdim=True)


def fault(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "raise":
        raise ZeroDivisionError("nothing to divide by")
    if how == "hang":
        time.sleep(10_000)
    if how == "kill-in-save":
        from torch.distributed.checkpoint import filesystem

        class Dying(filesystem.FileSystemWriter):
            def write_data(self, *args):
                super().write_data(*args).wait()
                os.kill(os.getpid(), signal.SIGKILL)

        filesystem.FileSystemWriter = Dying


def batches(seed, split):
    return Batches(seed, 2 if split == "eval" else None)


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
