"""The outer rules written down once more, in NumPy and float64, worker by worker; and a cluster to run ours on.

Workers descend on quadratics of their own with noise that is a function of worker and step.
"""

import copy

import numpy as np
import torch

from sooner.communication import Exchange, Layout, Sim
from sooner.communication._outer import Window

SHAPES = {"a": (3,), "b": (2, 4), "c": (1,)}
SIZE = 12
RATE = 0.1


def start():
    return np.random.default_rng(7).standard_normal(SIZE)


def curvature(worker):
    return np.random.default_rng(100 + worker).uniform(0.5, 2, SIZE)


def target(worker, step):
    fixed = np.random.default_rng(200 + worker).standard_normal(SIZE)
    return fixed + 0.3 * np.random.default_rng(1000 * step + worker).standard_normal(SIZE)


def gradient(worker, step, x):
    return curvature(worker) * x - target(worker, step)


def move(worker, step, x):
    return x - RATE * gradient(worker, step, x)


def run_ours(outer, workers, steps, codec=None, memory=None, shapes=SHAPES, begin=None, save_at=None):
    """Return the workers' weights [steps, n, d] after every step, the exchange, the outer state and what was saved."""
    layout = Layout(shapes)
    exchange = Exchange(layout, Sim(workers), codec, memory)
    outer.check(exchange)
    size = layout.size
    first = torch.from_numpy(np.resize(start(), size))
    slow, fast, rounds, done = first, first.expand(workers, -1).clone(), 0, 0
    state = {name: torch.zeros(size, dtype=torch.float64) for name in outer.slots}
    state |= {name: torch.zeros(workers, size, dtype=torch.float64) for name in outer.own_slots}
    if begin is not None:
        begin = copy.deepcopy(begin)
        exchange.load_state_dict(begin["exchange"])
        slow, fast, state, rounds, done = (begin[k] for k in ("slow", "fast", "state", "rounds", "done"))
    history, saved = [], None
    for step in range(done + 1, steps + 1):
        gradients = torch.stack(
            [
                torch.from_numpy(np.resize(gradient(i, step, np.resize(fast[i].numpy(), SIZE)), size))
                for i in range(workers)
            ]
        )
        if outer.averages_gradients:
            gradients = exchange(gradients).expand(workers, -1)
        fast.sub_(RATE * gradients)
        if outer.due(step):
            rounds += 1
            slow = outer.step(Window(slow, fast, state, exchange, rounds, step))
            fast = slow.expand(workers, -1).clone()
        history.append(fast.numpy().copy())
        if step == save_at:
            kept = {"exchange": exchange.state_dict(), "slow": slow, "fast": fast, "state": state}
            saved = copy.deepcopy({**kept, "rounds": rounds, "done": step})
    return np.stack(history), exchange, state, saved


class Workers:
    """What all references share: n workers that take steps of their own."""

    def __init__(self, workers):
        self.n, self.step, self.history = workers, 0, []
        self.x = [start() for _ in range(workers)]

    def local(self):
        self.step += 1
        self.x = [move(i, self.step, x) for i, x in enumerate(self.x)]

    def all_at(self, x):
        self.x = [x.copy() for _ in range(self.n)]

    def note(self):
        self.history.append(np.stack(self.x))


def local_sgd(workers, steps, every):
    w = Workers(workers)
    for _ in range(steps):
        w.local()
        if w.step % every == 0:
            w.all_at(sum(w.x) / workers)
        w.note()
    return np.stack(w.history)


def diloco(workers, steps, every, lr, mu):
    w, theta, m = Workers(workers), start(), np.zeros(SIZE)
    for _ in range(steps):
        w.local()
        if w.step % every == 0:
            g = theta - sum(w.x) / workers
            m = mu * m + g
            theta = theta - lr * (g + mu * m)
            w.all_at(theta)
        w.note()
    return np.stack(w.history)


def streaming(workers, steps, every, lr, mu, fragments, delay, alpha):
    w, theta, m, sent = Workers(workers), start(), np.zeros(SIZE), {}
    pieces = [slice(p * SIZE // fragments, (p + 1) * SIZE // fragments) for p in range(fragments)]
    for _ in range(steps):
        w.local()
        for p, piece in enumerate(pieces):
            due = (p + 1) * (every // fragments)  # at due, due + H, due + 2 H...
            if w.step + delay >= due and (w.step + delay - due) % every == 0:
                sent[p] = theta[piece] - sum(x[piece] for x in w.x) / workers
        for p, piece in enumerate(pieces):
            due = (p + 1) * (every // fragments)
            if w.step >= due and (w.step - due) % every == 0 and p in sent:
                g = sent.pop(p)
                m[piece] = mu * m[piece] + g
                theta[piece] = theta[piece] - lr * (g + mu * m[piece])
                for x in w.x:
                    x[piece] = alpha * x[piece] + (1 - alpha) * theta[piece]
        w.note()
    return np.stack(w.history)


def co2(workers, steps, every, alpha, beta, phi, penalty):
    """With `penalty` None, the one of the docstring. Starts x[t], averages bar[t]: round t uses those of t - 1."""
    w, m, t = Workers(workers), np.zeros(SIZE), 0
    x, bar = [start()], []
    for _ in range(steps):
        w.local()
        if w.step % every == 0:
            bar.append(sum(w.x) / workers)
            used = 0 if t == 0 else t - 1  # the first round is synchronous
            if t == 1:
                x.append(x[1])  # round 0 was used at once
            else:
                u = x[used] - bar[used]
                size = penalty or 1 + np.linalg.norm(x[t] - x[used]) / np.linalg.norm(u)
                m = beta * m + u / size
                x.append(x[t] - alpha * np.clip(m, -phi, phi))
            t += 1
            w.all_at(x[t])
        w.note()
    return np.stack(w.history)


def noloco(workers, steps, every, beta, mu, g, partners):
    w = Workers(workers)
    phi, m = [start() for _ in range(workers)], [np.zeros(SIZE) for _ in range(workers)]
    for _ in range(steps):
        w.local()
        if w.step % every == 0:
            d = [w.x[i] - phi[i] for i in range(workers)]
            old = [p.copy() for p in phi]
            for i, j in enumerate(partners(w.step, workers).tolist()):
                m[i] = mu * m[i] + beta * (d[i] + d[j]) / 2 + g * ((old[i] + old[j]) / 2 - old[i])
                phi[i] = old[i] + m[i]
            w.x = [p.copy() for p in phi]
        w.note()
    return np.stack(w.history)


def fedhyper(workers, steps, every, mode, low, high, cosine=False):
    w, x, last, alpha = Workers(workers), start(), np.zeros(SIZE), 1.0
    for _ in range(steps):
        w.local()
        if w.step % every == 0:
            delta = sum(w.x) / workers - x
            product = last @ delta
            if cosine and product:
                product = 0.1 * product / np.linalg.norm(last) / np.linalg.norm(delta)
            alpha = min(max(alpha + product, low), high)
            if mode == "G":
                x, last = x + alpha * delta, delta
            else:
                agg = alpha - 1
                x, last = x + delta + agg * delta + 0.9 * agg * last, delta + 0.9 * last
            w.all_at(x)
        w.note()
    return np.stack(w.history)


def snoo(workers, steps, every, lr, mu):
    x, slow, m, history = start(), start(), np.zeros(SIZE), []
    for step in range(1, steps + 1):
        x = x - RATE * sum(gradient(i, step, x) for i in range(workers)) / workers
        if step % every == 0:
            g = slow - x
            m = mu * m + g
            slow = slow - lr * (g + mu * m)
            x = slow
        history.append(np.stack([x] * workers))
    return np.stack(history)
