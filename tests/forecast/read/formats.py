"""Formats in which people keep the curve of a run, each written from the same hidden truth.

`FORMATS` is the list of what is read: by name, the file's name and a function that writes it. A truth is steps,
training losses, validation losses and learning rates; every format says which of the losses is to come back, and
whether it holds the learning rates and on which axis.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Truth:
    """A run: n steps, losses and rates."""

    steps: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    rates: np.ndarray

    def rows(self):
        """The rows as plain numbers: step, training loss, validation loss, learning rate."""
        return list(
            zip(self.steps.tolist(), self.training.tolist(), self.validation.tolist(), self.rates.tolist(), strict=True)
        )


@dataclass(frozen=True)
class Format:
    """One way to write a run.

    Args:
        file: its name.
        write: makes text or bytes of a truth.
        loss: which loss comes back: training or validation.
        rates: whether learning rates do.
        axis: step, epoch (1, 2, ...), or tenths (of an epoch).
        places: decimals of the losses.
        factor: of the steps, where they are written in other units.
        scale: of the losses, likewise.
    """

    file: str
    write: Callable[[Truth], str | bytes]
    loss: str = "training"
    rates: bool = False
    axis: str = "step"
    places: int = 4
    factor: float = 1.0
    scale: float = 1.0


FORMATS: dict[str, Format] = {}


def each(name, file, line, head="", tail="", **kinds):
    """Add a format that is a line for each row."""

    def write(truth):
        rows = [
            line(s=s, t=t, v=v, r=r, i=i, e=i + 1) if callable(line) else line.format(s=s, t=t, v=v, r=r, i=i, e=i + 1)
            for i, (s, t, v, r) in enumerate(truth.rows())
        ]
        return head + "".join(rows) + tail

    FORMATS[name] = Format(file, write, **kinds)


def whole(name, file, write, **kinds):
    """Add a format that is written at once."""
    FORMATS[name] = Format(file, write, **kinds)


VAL = {"loss": "validation"}
# text logs
each(
    "nanoGPT",
    "train.log",
    "step {s}: train loss {t:.4f}, val loss {v:.4f}\niter {s}: loss {t:.4f}, time 9.10ms\n",
    **VAL,
)
each("modded-nanogpt", "log.txt", "step:{s}/9000 val_loss:{v:.4f} train_time:{i}ms step_avg:9.1ms\n", **VAL)
each("llm.c", "main.log", "s:{s} trl:{t:.4f} lr:{r:.6f} norm:1.2\n", rates=True)
each(
    "nanochat",
    "run.log",
    "step {s:05d}/21400 (0.47%) | loss: {t:.6f} | lrm: 1.00 | dt: 900.00ms | tok/sec: 500,000 |\n",
    places=6,
)
each("build-nanogpt", "log.txt", "{s} train {t:.6f}\n", head="0 val 10.95\n0 hella 0.2450\n", places=6)
each(
    "Hugging Face dictionaries",
    "out.txt",
    "{{'loss': {t:.4f}, 'grad_norm': 0.03, 'learning_rate': {r:.3e}, 'epoch': {x}}}\n".replace("{x}", "{e}"),
    axis="epoch",
    rates=True,
)
each(
    "Hugging Face with a bar",
    "out.log",
    "  1%|▏         | {s}/99999 [00:03<1:00:00,  3.2it/s]\r{{'loss': '{t:.4f}', 'learning_rate': '{r:.3e}'}}\n",
    rates=True,
)
each(
    "torchtitan in colours",
    "titan.log",
    (
        "[rank0]:[titan] 2025-01-01 10:00:00,000 - root - INFO - \x1b[31mstep: {s}  \x1b[32mloss:  {t:.4f}"
        "  \x1b[38;2;180;60;0mgrad_norm:  0.6  \x1b[33mmemory:  2.47GiB(3.12%)  \x1b[34mtps: 3,502\x1b[39m\n"
    ),
)
each(
    "fairseq",
    "train.log",
    (
        "2023-01-01 10:00:00 | INFO | train_inner | epoch 001:    {s} / 20000 loss={t:.3f}, nll_loss=1.5,"
        " ppl=12.3, wps=1000, num_updates={s}, lr={r:.6f}, gnorm=0.5\n"
    ),
    rates=True,
    places=3,
)
each(
    "fairseq json",
    "train.log",
    (
        '2023-01-01 10:00:00 | INFO | train_inner | {{"epoch": 1, "update": 0.1, "loss": "{t:.3f}", "ppl":'
        ' "12.3", "num_updates": "{s}", "lr": "{r:.6f}"}}\n'
    ),
    rates=True,
    places=3,
)
each(
    "fairseq valid",
    "valid.log",
    (
        "2023-01-01 10:00:00 | INFO | valid | epoch {e:03d} | valid on 'valid' subset | loss {v:.3f} | nll_loss"
        " 2.7 | ppl 12.3 | num_updates {s} | best_loss 1.9\n"
    ),
    places=3,
    **VAL,
)
each(
    "OpenNMT",
    "onmt.log",
    (
        "[2020-01-01 10:00:00,000 INFO] Step {s}/100000; acc:  25.10; ppl: 321.10; xent: {t:.2f}; lr: {r:.5f};"
        " 9000/8000 tok/s;     60 sec\n"
    ),
    rates=True,
    places=2,
)
each(
    "OLMo",
    "olmo.log",
    (
        "2025-01-01 10:00:00.000\thost:0\tolmo.train:979\tINFO\t[step={s}/15000,epoch=0]\n    optim/total_grad_norm=0."
        "1841\n    train/CrossEntropyLoss={t:.3f}\n"
    ),
    places=3,
)
each(
    "litgpt",
    "lit.log",
    (
        "Epoch 1 | iter {i} step {s} | loss train: {t:.3f}, val: n/a | iter time: 100.00 ms (step) remaining"
        " time: 0:10:00\n"
    ),
    places=3,
)
each(
    "DeepSpeed",
    "ds.log",
    (
        "[2024-01-01 10:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] step={s}, skipped=0, lr=[{r:.6f}],"
        " mom=[(0.9, 0.999)]\nsteps: {s} loss: {t:.4f} iter time (s): 0.186 samples/sec: 53.694\n"
    ),
    rates=True,
)
each(
    "Megatron",
    "megatron.log",
    (
        " iteration {s:8d}/  500000 | consumed samples: {i:12d} | elapsed time per iteration (ms): 290.9"
        " | learning rate: {r:.3E} | global batch size:     8 | lm loss: {t:.6E} | loss scale: 262144.0 |"
        " number of nan iterations:   0 |\n"
    ),
    rates=True,
    places=6,
)
each(
    "Megatron validation",
    "megatron.log",
    (
        " iteration {s:8d}/  500000 | lm loss: {t:.6E} | number of nan iterations:   0 |\n validation loss"
        " at iteration {s} | lm loss value: {v:.6E} | lm loss PPL: 1.813974E+01 |\n"
    ),
    places=6,
    **VAL,
)
each(
    "MaxText",
    "max.log",
    (
        "completed step: {s}, seconds: 1.2, TFLOP/s/device: 100.1, Tokens/s/device: 1000.0, total_weights:"
        " 16384, loss: {t:.3f}\n"
    ),
    places=3,
)
each(
    "detectron2 text",
    "d2.log",
    (
        "[01/01 10:00:00 d2.utils.events]: eta: 0:10:00  iter: {s}  total_loss: {t:.4f}  loss_cls: 0.71 "
        " time: 0.5  data_time: 0.01  lr: {r:.6f}  max_mem: 2000M\n"
    ),
    rates=True,
)
each(
    "Caffe",
    "caffe.log",
    (
        "I0101 10:00:00.000000  1234 solver.cpp:228] Iteration {s}, loss = {t:.5f}\nI0101 10:00:00.000000"
        "  1234 sgd_solver.cpp:106] Iteration {s}, lr = {r:.6f}\n"
    ),
    rates=True,
    places=5,
)
each(
    "Paddle",
    "paddle.log",
    "[2024-01-01 10:00:00] [INFO] - global step {s}, epoch: 1, batch: {i}, loss: {t:.5f}, speed: 1.00 step/s\n",
    places=5,
)
each(
    "PyTorch ImageNet example",
    "im.log",
    (
        "Epoch: [0][{s}/999999]\tTime  0.345 ( 0.412)\tData  0.001 ( 0.030)\tLoss {t:.4e} (6.9e+00)\tAcc@1"
        "   0.39 (  0.21)\tAcc@5   1.95 (  1.02)\n"
    ),
)
each("PyTorch MNIST example", "mnist.log", "Train Epoch: 1 [{s}/9999999 (0%)]\tLoss: {t:.6f}\n", places=6)
each(
    "word language model example",
    "lm.log",
    "| epoch   1 | {s:5d}/999999 batches | lr {r:.6f} | ms/batch 14.20 | loss {t:6.3f} | ppl    16.41\n",
    rates=True,
    places=3,
)
each("a line per epoch", "train.log", "Epoch {e}/1000 - Train Loss: {t:.4f}, Val Loss: {v:.4f}\n", axis="epoch", **VAL)
each(
    "Keras progress",
    "keras.log",
    (
        "Epoch {e}/1000\n 1/100 [..............................] - ETA: 1s - loss: 9.9\r 50/100 [======>.............."
        ".........] - ETA: 0s - loss: 9.8\r100/100 [==============================] - 1s 10ms/step - loss:"
        " {t:.4f} - accuracy: 0.5000 - val_loss: {v:.4f}\n"
    ),
    axis="epoch",
    **VAL,
)
each(
    "Keras 3 progress",
    "keras.log",
    (
        "Epoch {e}/1000\n\x1b[1m100/100\x1b[0m \x1b[32m━━━━━━━━━━━━━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m1s\x1b[0m"
        " 10ms/step - accuracy: 0.5000 - loss: {t:.4f}\n"
    ),
    axis="epoch",
)
each(
    "Lightning's bar",
    "bar.log",
    "Epoch 0:  12%|█▏        | {s}/999999 [00:10<10:00,  5.01it/s, loss={t:.4f}, v_num=0]\r",
)
each("XGBoost", "xgb.log", "[{s}]\ttrain-rmse:{t:.5f}\teval-rmse:{v:.5f}\n", places=5, **VAL)
each("LightGBM", "lgb.log", "[{s}]\ttraining's l2: {t:.6f}\tvalid_1's l2: {v:.6f}\n", places=6, **VAL)
each(
    "CatBoost",
    "cat.log",
    "{s}:\tlearn: {t:.7f}\ttest: {v:.7f}\tbest: 0.3 (12)\ttotal: 10.2ms\tremaining: 1m 2s\n",
    places=7,
    **VAL,
)
each("global_step=", "t.log", "global_step={s}, loss={t:.4f}\n")
each("num_updates", "t.log", "num_updates {s} loss {t:.4f}\n")
each("[n/total]", "t.log", "[{s}/99999] loss: {t:.4f}\n")
each("n/total", "t.log", "{s}/99999 loss={t:.4f}\n")
each("[step n]", "t.log", "[step {s}] loss={t:.4f}\n")
each("Step[n]", "t.log", "Step[{s}]: loss={t:.4f}\n")
each("Iter-n", "t.log", "Iter-{s}: loss {t:.4f}\n")
each("step #n", "t.log", "step #{s} loss {t:.4f}\n")
each("batch n", "t.log", "batch {s} loss {t:.4f}\n")
each("a sentence", "t.log", "Training loss at step {s} = {t:.4f}\n")
each("another sentence", "t.log", "At step {s} the loss is {t:.4f}.\n")
each("loss (train)", "t.log", "step {s} loss (train) {t:.4f}\n")
each("capitals", "t.log", "STEP: {s} LOSS: {t:.4f} LR: {r:.6f}\n", rates=True)
each("loss first", "t.log", "loss {t:.4f} lr {r:.6f} step {s}\n", rates=True)
each("speed before the step", "t.log", "elapsed 12.5 s 300 tok/s step {s} loss {t:.4f}\n")
each("an auxiliary loss first", "t.log", "step {s} | aux loss: 0.0110 | lm loss: {t:.4f} | lr: {r:.2e}\n", rates=True)
each("thousands", "t.log", "step {s:,} loss {t:.4f}\n")
each("thousands of steps", "t.log", "step {s}k loss {t:.4f}\n", factor=1e3)
each("decimal commas", "t.log", lambda s, v, **_: f"step {s}: val loss {v:.4f}\n".replace(".", ","), **VAL)
each(
    "few evaluations between",
    "t.log",
    lambda s, t, i, **_: f"step {s} loss {t:.4f}\n" + (f"step {s} eval loss 9.5\n" if i in (2, 5) else ""),
)
each("perplexity only", "t.log", lambda s, v, **_: f"step {s} ppl {np.exp(v):.6f}\n", **VAL)
each("two ranks", "t.log", "[rank0]: step {s} loss {t:.4f}\n[rank1]: step {s} loss 9.9\n")
each("a tensor", "t.log", "step {s}, loss: tensor({t:.4f}, device='cuda:0')\n")
each(
    "Windows lines and a mark",
    "t.log",
    "\ufeffstep {s}: val loss {v:.4f}\r\n".replace("\ufeff", ""),
    head="\ufeff",
    **VAL,
)
whole("UTF-16", "t.log", lambda truth: FORMATS["capitals"].write(truth).encode("utf-16"), rates=True)
whole("UTF-16 without a mark", "t.log", lambda truth: FORMATS["capitals"].write(truth).encode("utf-16-le"), rates=True)
whole(
    "Latin letters",
    "t.log",
    lambda truth: "Entraînement démarré\n".encode("latin-1") + FORMATS["capitals"].write(truth).encode(),
    rates=True,
)
whole("zero bytes in front", "t.log", lambda truth: bytes(3000) + FORMATS["capitals"].write(truth).encode(), rates=True)
whole(
    "a last line cut off", "t.log", lambda truth: FORMATS["capitals"].write(truth) + "STEP: 999999 LOSS: 1", rates=True
)
# tables
CSV = "{s},{t:.4f},{v:.4f},{r:.8f}\n"
each("csv", "a.csv", CSV, head="step,train_loss,val_loss,lr\n", rates=True, **VAL)
each("csv without an ending", "metrics", CSV, head="step,train_loss,val_loss,lr\n", rates=True, **VAL)
each("csv in a log", "metrics.log", CSV, head="step,train_loss,dev_loss,lr\n", rates=True, **VAL)
each("csv, cut off", "a.csv", CSV, head="step,train_loss,valid_loss,lr\n", tail="999999,1.2", rates=True, **VAL)
each("csv behind #", "a.csv", "{s},{t:.4f}\n", head="# step,loss\n")
each("csv with units", "a.csv", "{s},{t:.4f}\n", head="step,loss\n(it),(nats)\n")
each(
    "tsv",
    "a.tsv",
    CSV.replace(",", "\t"),
    head="EPOCHS_DONE\tTRAIN_LOSS\tDEV_LOSS\tLR\n".replace("EPOCHS_DONE", "STEP"),
    rates=True,
    **VAL,
)
each(
    "flair's tsv",
    "loss.tsv",
    "{e}\t10:00:00\t{r:.8f}\t{t:.4f}\t\t{v:.4f}\n",
    head="EPOCH\tTIMESTAMP\tLEARNING_RATE\tTRAIN_LOSS\tDEV_LOSS\n",
    rates=True,
    axis="epoch",
    **VAL,
)
each(
    "semicolons and commas",
    "a.csv",
    lambda s, t, r, **_: f"{s};{t:.4f};{r:.8f}\n".replace(".", ","),
    head="step;loss;lr\n",
    rates=True,
)
each("bars", "a.txt", "{s} | {t:.4f} | {v:.4f}\n", head="step | train loss | val loss\n", **VAL)
each("spaces", "a.txt", "{s:9d} {t:12.4f}\n", head="     step         loss\n")
each("Markdown", "a.md", "| {s} | {t:.4f} |\n", head="# Results\n\n| step | loss |\n|---:|---:|\n")
each("two bare columns", "a.txt", "{s} {t:.4f}\n")
each("MLflow's metric", "loss", "17000000{s:08d} {t:.6f} {s}\n", places=6)
each("TensorBoard's download", "a.csv", "17000000{s:08d}.0,{s},{t:.6f}\n", head="Wall time,Step,Value\n", places=6)
each(
    "Lightning's metrics",
    "metrics.csv",
    "0,{r:.8f},{s},,\n0,,{s},{t:.4f},\n0,,{s},,{v:.4f}\n",
    head="epoch,lr-AdamW,step,train_loss_step,val_loss\n",
    rates=True,
    **VAL,
)
each(
    "Keras' CSVLogger",
    "log.csv",
    "{i},0.5,{t:.4f},0.5,{v:.4f}\n",
    head="epoch,accuracy,loss,val_accuracy,val_loss\n",
    axis="epoch",
    **VAL,
)
each(
    "fastai's history",
    "history.csv",
    "{i},{t:.4f},{v:.4f},0.3,00:12\n",
    head="epoch,train_loss,valid_loss,accuracy,time\n",
    axis="epoch",
    **VAL,
)
each(
    "timm's summary",
    "summary.csv",
    "{i},{t:.4f},{v:.4f},10.0,30.0,{r:.8f}\n",
    head="epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n",
    rates=True,
    axis="epoch",
    **VAL,
)
each(
    "stable-baselines3",
    "progress.csv",
    "{s},10.0,,\n{s},,{t:.4f},3.0\n",
    head="time/total_timesteps,rollout/ep_rew_mean,train/loss,train/value_loss\n",
)
each("CatBoost's learn_error", "learn_error.tsv", "{s}\t{t:.6f}\n", head="iter\tLogloss\n", places=6)
each("pandas' index", "a.csv", "{i},{t:.4f},{v:.4f}\n", head=",loss,val_loss\n", axis="epoch", **VAL)
each("no steps", "a.csv", "{t:.4f},{v:.4f}\n", head="loss,val_loss\n", axis="epoch", **VAL)
each(
    "accuracy in per cent",
    "a.csv",
    lambda s, t, **_: f"{s},{100 * (1 - t / 20):.4f}%\n",
    head="step,accuracy\n",
    scale=0.05,
)
each("perplexity in a table", "a.csv", lambda s, v, **_: f"{s},{np.exp(v):.6f}\n", head="step,val_ppl\n", **VAL)
each(
    "Weights & Biases' export",
    "wandb.csv",
    '"{s}","{t:.4f}","{t:.4f}","{t:.4f}"\n',
    head='"Step","calm-1 - loss","calm-1 - loss__MIN","calm-1 - loss__MAX"\n',
)
# JSON


def dump(one):
    """A row as the text of an object."""
    return json.dumps(one)


each("JSON lines", "a.jsonl", lambda s, t, r, **_: dump({"step": s, "loss": round(t, 4), "lr": r}) + "\n", rates=True)
each(
    "JSON lines in a text file",
    "log.txt",
    lambda i, t, v, r, **_: (
        dump({"train_lr": r, "train_loss": round(t, 4), "test_loss": round(v, 4), "epoch": i, "n_parameters": 22})
        + "\n"
    ),
    rates=True,
    axis="epoch",
    **VAL,
)
each("JSON lines of strings", "a.jsonl", lambda s, t, **_: dump({"num_updates": str(s), "loss": f"{t:.4f}"}) + "\n")
each(
    "JSON lines, cut off",
    "a.jsonl",
    lambda s, t, **_: dump({"step": s, "loss": round(t, 4)}) + "\n",
    tail='{"step": 999999, "lo',
)
each(
    "JSON lines with a header",
    "a.jsonl",
    lambda s, t, **_: dump({"step": s, "loss": round(t, 4)}) + "\n",
    head='{"config": {"lr": 0.1}, "name": "run"}\n',
)
each(
    "LLaMA-Factory",
    "trainer_log.jsonl",
    lambda s, t, r, **_: (
        dump(
            {
                "current_steps": s,
                "total_steps": 99999,
                "loss": round(t, 4),
                "lr": r,
                "epoch": 0.1,
                "elapsed_time": "0:00:26",
            }
        )
        + "\n"
    ),
    rates=True,
)
each(
    "detectron2",
    "metrics.json",
    lambda s, t, r, **_: (
        dump({"data_time": 0.01, "iteration": s, "loss_cls": 1.4, "lr": r, "total_loss": round(t, 4)}) + "\n"
    ),
    rates=True,
)
each(
    "mmdetection",
    "a.log.json",
    lambda s, t, r, **_: (
        dump({"mode": "train", "epoch": 1, "iter": s, "lr": r, "loss_cls": 0.5, "loss": round(t, 4), "time": 0.3})
        + "\n"
    ),
    head='{"env_info": "linux", "seed": 0}\n',
    rates=True,
)
each(
    "evaluations between JSON lines",
    "a.jsonl",
    lambda s, t, v, r, **_: (
        dump({"step": s, "loss": round(t, 4), "learning_rate": r})
        + "\n"
        + dump({"step": s, "eval_loss": round(v, 4)})
        + "\n"
    ),
    rates=True,
    **VAL,
)
whole(
    "a JSON array", "a.json", lambda truth: json.dumps([{"step": s, "loss": round(t, 4)} for s, t, *_ in truth.rows()])
)
whole(
    "Keras' history",
    "history.json",
    lambda truth: json.dumps(
        {"loss": truth.training.round(4).tolist(), "val_loss": truth.validation.round(4).tolist()}
    ),
    axis="epoch",
    **VAL,
)
whole(
    "trainer_state.json",
    "trainer_state.json",
    lambda truth: json.dumps(
        {
            "best_metric": None,
            "global_step": 9,
            "log_history": [
                {"epoch": 0.1, "step": s, "loss": round(t, 4), "learning_rate": r} for s, t, _, r in truth.rows()
            ],
            "max_steps": 99,
        },
        indent=2,
    ),
    rates=True,
)
whole(
    "nested JSON",
    "a.json",
    lambda truth: json.dumps(
        {
            "config": {"lr": 1},
            "result": {
                "history": [{"step": s, "metrics": {"loss": round(t, 4), "aux": 1.0}} for s, t, *_ in truth.rows()]
            },
        }
    ),
)
whole(
    "lists by split",
    "a.json",
    lambda truth: json.dumps(
        {
            "step": truth.steps.tolist(),
            "train": {"loss": truth.training.round(4).tolist()},
            "val": {"loss": truth.validation.round(4).tolist()},
        }
    ),
    **VAL,
)
whole(
    "objects by step", "a.json", lambda truth: json.dumps({str(s): {"loss": round(t, 4)} for s, t, *_ in truth.rows()})
)
whole(
    "TensorBoard's JSON", "a.json", lambda truth: json.dumps([[1.7e9 + s, s, round(t, 4)] for s, t, *_ in truth.rows()])
)
