"""A script that asks the race for what it is to do, and keeps a checkpoint."""

import json
import random
import sys

import sooner

with sooner.contender(seed=0, steps=30) as run:
    draw = random.Random(run.seed)
    rate = float(sys.argv[1])
    kept = run.folder / "kept.json"
    x, first = 3 + draw.gauss(0, 1), 0
    if kept.exists():
        x, first, state = json.loads(kept.read_text())
        draw.setstate((state[0], tuple(state[1]), state[2]))
    else:
        run.report(0, val_loss=x * x + 0.1)
    for step in range(first, run.steps):
        x -= rate * (2 * x + draw.gauss(0, 0.5))
        if (step + 1) % 2 == 0:
            run.report(step + 1, val_loss=x * x + 0.1, train_loss=None, lr=rate)
            kept.write_text(json.dumps([x, step + 1, draw.getstate()]))
            if (run.folder / "die once").exists() and step > run.steps // 2:
                (run.folder / "die once").unlink()
                sys.exit("killed in the middle")
