"""Run by two processes of test_world.py: everything that several workers of the reference loop promise, in one go.

Every check is a function of the rank and a folder; what it returns is compared by the test.
"""

import os
import pickle
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

import sooner
from sooner.task import from_file

TASK = from_file(Path(__file__).parent / "plane_task.py")
RECIPES = (
    "adamw(lr=0.02)",
    "sgd(lr=0.05) + top_k(ratio=0.2) + ef",
    "sgd(lr=0.05, momentum=0.0) + dgc(ratio=0.1)",
    "adamw(lr=0.02) + diloco(every=4) + fp16",
    "sgd(lr=0.05) + noloco(every=3) + ema",
    "sgd(lr=0.05) + co2(every=3)",
    "adamw(lr=0.02) + snoo(every=4)",
    "sgd(on='*.bias') + muon(on='rest') + clip_norm(max_norm=0.1) + cosine",
    "adamw(lr=0.02) + silent",
)


def outcome(run):
    weights = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    return {
        "weights": weights,
        "losses": run.losses,
        "history": (run.steps, run.values, run.metrics, run.diverged_at),
        "sent": run.together and (run.together.payload_bytes, run.together.wire_bytes),
        "apart": run.together and (run.together.consensus, run.together.replicas),
    }


def straight(rank, folder):
    return {recipe: outcome(sooner.train(TASK, recipe, 3)) for recipe in RECIPES}


def resumed(rank, folder):
    """Every run goes on from a copy of its checkpoint of step 9, taken while it went on."""
    found = {}
    for number, recipe in enumerate(RECIPES):
        first, copy = folder / f"{number}", folder / f"{number} copied"

        def copied(step, value, first=first, copy=copy):
            if step == 12:
                shutil.copytree(first, copy)

        sooner.train(TASK, recipe, 3, checkpoint=first, save_every=9, progress=copied)
        assert [path.name for path in first.iterdir()] == ["step-24"]
        assert [path.name for path in copy.iterdir()] == ["step-9"]
        shutil.copytree(copy, folder / f"{number} of two") if rank == 0 else None
        found[recipe] = outcome(sooner.train(TASK, recipe, 3, checkpoint=copy))
    return found


def plain(seed):
    """A model without chance in its steps."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()


def squared(model, batch):
    return TASK.loss(model, [x.double() for x in batch])


def averaged(rank, folder):
    task = replace(TASK, model=plain, loss=squared)
    return {name: outcome(sooner.train(task, recipe, 3, **more)) for name, (recipe, more) in AVERAGED.items()}


AVERAGED = {
    "nothing": ("adamw(lr=0.02)", {}),
    "dense": ("adamw(lr=0.02) + dense", {}),
    "accumulated": ("sgd(lr=0.05)", {"accumulate": 3}),
    "clipped by the loop": ("sgd(lr=0.5)", {"clip_norm": 0.05}),
    "clipped by a part": ("sgd(lr=0.5) + clip_norm(max_norm=0.05)", {}),
    "clipped over two optimizers": ("sgd(lr=0.5, on='*.bias') + muon(on='rest') + clip_norm(max_norm=0.05)", {}),
    "of torch": ("torch.optim.NAdam(lr=0.01) + clip_norm(max_norm=0.05) + cosine", {}),
}


def not_a_number(rank, folder):
    def loss(model, batch, calls=[0]):
        calls[0] += model.training
        wrong = rank == 1 and calls[0] == 8 and model.training
        return TASK.loss(model, batch) * (torch.nan if wrong else 1.0)

    run = sooner.train(replace(TASK, loss=loss), "adamw + top_k(ratio=0.2) + ef", 3)
    return run.steps, run.diverged_at


def sentence(call):
    try:
        call()
    except sooner.SoonerError as error:
        return str(error)
    return None


def refusals(rank, folder):
    (folder / "taken").mkdir(exist_ok=True)
    (folder / "taken" / "step-3.partial").write_text("")
    (folder / "file").write_text("")
    mine = "adamw + top_k(ratio=0.1)" if rank == 0 else "adamw + top_k(ratio=0.2)"

    def small_disk():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            sooner.train(TASK, "adamw", 3, checkpoint=folder / "small", save_every=3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return {
        "closure": sentence(lambda: sooner.train(TASK, "sophia_h", 3)),
        "cohort": sentence(lambda: sooner.train(TASK, "adamw + local_sgd + sampled", 3)),
        "passes": sentence(lambda: sooner.train(TASK, "adamw + local_sgd + sam", 3)),
        "recipe": sentence(lambda: sooner.train(TASK, mine, 3)),
        "model": sentence(lambda: sooner.train(replace(TASK, model=other_model(rank)), "adamw", 3)),
        "no folder": sentence(lambda: sooner.train(TASK, "adamw", 3, checkpoint=folder / "no" / "where")),
        "unwritable": sentence(lambda: sooner.train(TASK, "adamw", 3, checkpoint=folder / "taken", save_every=3)),
        "a file": sentence(lambda: sooner.train(TASK, "adamw", 3, checkpoint=folder / "file")),
        "full disk": sentence(small_disk),
        "another run": sentence(lambda: sooner.train(TASK, RECIPES[0], 4, checkpoint=folder.parent / "resumed" / "0")),
    }


def other_model(rank):
    return TASK.model if rank == 0 else lambda seed: torch.nn.Sequential(TASK.model(seed), torch.nn.Linear(1, 1))


CHECKS = (straight, resumed, averaged, not_a_number, refusals)


def main():
    torch.set_num_threads(1)
    rank, folder, found = int(os.environ["RANK"]), Path(sys.argv[1]), {}
    for check in CHECKS:
        place = folder / check.__name__
        place.mkdir(exist_ok=True)
        found[check.__name__] = check(rank, place)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
