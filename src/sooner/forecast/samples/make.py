"""Make the sample curves that come with `sooner forecast`: one small language model under three schedules.

python -m sooner.forecast.samples.make [FOLDER]    (about 4 minutes on 2 cores; default: where the package keeps them)

Each curve is the `charlm` workload trained for 2,000 steps by AdamW, evaluated 100 times, with the learning rate of
every evaluation beside it.
"""

import csv
import sys
from pathlib import Path

import numpy as np

import sooner
from sooner.forecast import parse

STEPS, EVERY, PEAK = 2000, 20, 3e-3
SCHEDULES = {
    "constant": ("constant(warmup=100)", "constant:warmup=100"),
    "cosine": ("cosine(warmup=0.05)", "cosine:warmup=100"),
    "wsd": ("warmup_stable_decay(warmup=0.05, decay=0.2)", "wsd:warmup=100,decay=380"),
}
"""The part that trains, and the same schedule in the words of `sooner forecast`."""


def main() -> None:
    """Train, evaluate, write."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, (part, words) in SCHEDULES.items():
        at = range(EVERY, STEPS + 1, EVERY)
        run = sooner.train(sooner.workload("charlm"), f"adamw(lr={PEAK}) + {part}", seed=0, steps=STEPS, evaluate_at=at)
        rates = parse(words, total=STEPS, peak=PEAK).lr(np.array(run.steps, dtype=np.float64))
        with (folder / f"charlm_{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "val_loss", "lr"])
            for step, value, rate in zip(run.steps, run.values, rates, strict=True):
                writer.writerow([step, f"{value:.5f}", f"{rate:.6g}"])
        print(f"{name}: {run.values[-1]:.4f} at step {run.steps[-1]}")


if __name__ == "__main__":
    main()
