"""A task written to a file, that every optimizer learns in a few steps, and a watch that counts."""

from pathlib import Path

from sooner.watch import Watch

PLANE = '''
"""A plane is fitted to points."""
import torch
steps = 40
def model(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 1)
def batches(seed, split):
    x = torch.randn(60, 16, 4, generator=torch.Generator().manual_seed(seed))
    return [(x[i], x[i].sum(1, keepdim=True)) for i in range(60)]
def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
'''


def task_file(folder):
    """The path of the task's file, written to a folder."""
    path = Path(folder) / "my_task.py"
    path.write_text(PLANE, encoding="utf-8")
    return path


class Counts(Watch):
    """Remembers which runs have finished."""

    def __init__(self):
        self.done = []

    def finished(self, cell, data):
        self.done.append(cell.key)
