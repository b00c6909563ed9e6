"""A script without torch: noisy descent on a quadratic, which stands for any program that prints step and loss."""

import argparse
import random
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--momentum", type=float, default=0.0)
parser.add_argument("--fault", default="")
parser.add_argument("--out", default="")
a = parser.parse_args()

draw = random.Random(0 if a.fault == "seedless" else a.seed)
if a.fault == "restless":
    draw = random.Random(time.time_ns())
if a.fault == "exit":
    print("loading", flush=True)
    sys.exit("cannot open data.bin")
if a.fault == "silent":
    print("step 0: val loss 9.0", flush=True)
    time.sleep(600)
x = [draw.gauss(0, 1) + 3 for _ in range(8)]
v = [0.0] * 8
log = Path(a.out, "log.csv")
if a.out:
    log.write_text("step,train_loss,val_loss\n")
for step in range(a.steps + 1):
    if step % max(1, a.steps // 20) == 0 or step == a.steps:
        loss = sum(one * one for one in x) / 8 + 0.1
        if a.fault == "unnamed":
            print(f"epoch {step} accuracy {loss:.6f}")
        elif a.out:
            log.write_text(f"{log.read_text()}{step},,{loss:.6f}\n")
        else:
            print(f"step {step}: val loss {loss:.6f}", flush=True)
    rate = a.lr * (1 - step / a.steps) if a.fault == "decay" else a.lr
    for i in range(8):
        v[i] = a.momentum * v[i] + x[i] + draw.gauss(0, 0.5)
        x[i] -= rate * v[i]
