"""Make the curves from which the usual errors of forecasts are learned; `learn.py` beside this reads them.

python -m sooner.forecast.bands.sweep [FILE]    (about 6 minutes on one core; default: where the package keeps them)

Bundled tasks at several sizes under three schedules each, AdamW, one seed. Tasks that are held back from the choice of
defaults take no part, nor does one whose loss falls to nothing because it can be learned by heart.
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np

import sooner
from sooner.forecast import parse

FILE = Path(__file__).with_name("sweep.csv")
TASKS = (
    ("charlm", (0.125, 0.25, 0.5, 1.0), 1500, 3e-3),
    ("charlm", (0.25,), 1500, 1e-3),
    ("digits", (0.25, 1.0), 1500, 1e-3),
    ("digits_flow", (1.0,), 1500, 3e-3),
)
"""Task, sizes, steps, and largest learning rate."""
SCHEDULES = {
    "constant": ("constant(warmup={warmup})", "constant:warmup={warmup}"),
    "cosine": ("cosine(warmup={share})", "cosine:warmup={warmup}"),
    "wsd": ("warmup_stable_decay(warmup={share}, decay=0.2)", "wsd:warmup={warmup},decay=0.2"),
}
"""The part that trains, and the same schedule in the words of `sooner forecast`."""
SHARE = 0.02
"""Of the steps, that warm up."""
POINTS = 40
"""Evaluations evenly over a run, and as many evenly in the logarithm."""


def main() -> None:
    """Train, evaluate, write."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "size", "peak", "parameters", "schedule", "step", "loss", "lr"])
        for name, sizes, steps, peak in TASKS:
            spread = [np.linspace(steps / POINTS, steps, POINTS), np.geomspace(1, steps, POINTS)]
            at = np.unique(np.round(np.concatenate(spread)).astype(int)).tolist()
            for size in sizes:
                for schedule, words in SCHEDULES.items():
                    part, text = (one.format(warmup=round(SHARE * steps), share=SHARE) for one in words)
                    task = sooner.workload(name).at(size)
                    begun = time.process_time()
                    run = sooner.train(task, f"adamw(lr={peak}) + {part}", seed=0, steps=steps, evaluate_at=at)
                    rates = parse(text, total=steps, peak=peak).lr(np.array(run.steps, dtype=np.float64))
                    weights = sum(p.numel() for p in task.model(0).parameters())
                    for step, value, rate in zip(run.steps, run.values, rates, strict=True):
                        writer.writerow([name, size, peak, weights, schedule, step, f"{value:.5g}", f"{rate:.5g}"])
                    file.flush()
                    print(f"{name} {size:g} {schedule}: {run.values[-1]:.4g}, {time.process_time() - begun:.0f} s")


if __name__ == "__main__":
    main()
