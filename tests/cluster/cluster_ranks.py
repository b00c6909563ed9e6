"""Run by test_cluster.py: two gloo processes train every recipe with the ordinary loop, and rank 0 saves what came out.

python cluster_ranks.py FOLDER, where FOLDER/recipes has a recipe per line
"""

import sys
from pathlib import Path

import heterogeneous_task
import torch
from torch import distributed

import sooner
from sooner.task import from_module


def main(folder):
    distributed.init_process_group("gloo")
    task = from_module(heterogeneous_task, "heterogeneous_task")
    found = []
    for recipe in (folder / "recipes").read_text().splitlines():
        run = sooner.train(task, recipe, 3, 9, evaluate_at=[0, 5, 9])
        weights = torch.cat([p.detach().reshape(-1) for p in run.model.parameters()])
        found.append((weights, run.values, run.losses, run.together.wire_bytes[-1]))
    if distributed.get_rank() == 0:
        torch.save(found, folder / "found.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
