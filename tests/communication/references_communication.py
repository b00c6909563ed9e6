"""The rules of codecs and memories once more, worker by worker in NumPy, written from the papers' equations."""

import math

import numpy as np


def top_k(v, k):
    made = np.zeros_like(v)
    places = np.argsort(-np.abs(v))[:k]
    made[places] = v[places]
    return made


def sign(v):
    return np.abs(v).mean() * np.where(v >= 0, 1.0, -1.0)


def int8(v, block):
    made = np.zeros_like(v)
    for first in range(0, len(v), block):
        part = v[first : first + block]
        scale = np.float32(np.abs(part).max() / 127)
        made[first : first + block] = np.round(part / scale) * scale if scale else 0
    return made


def error_feedback(gradients, compress):
    """Yield the update of every round; `gradients` is a list of rounds, each a list of the workers' vectors."""
    e = [np.zeros_like(g) for g in gradients[0]]
    for round_ in gradients:
        sent = []
        for i, g in enumerate(round_):
            p = g + e[i]
            c = compress(p)
            e[i] = p - c
            sent.append(c)
        yield sum(sent) / len(sent)


def ef21(gradients, compress, momentum=0.0):
    """EF21, of running means where there is momentum; everything starts at the first gradients, sent whole."""
    m = [g.copy() for g in gradients[0]]
    h = [g.copy() for g in gradients[0]]
    yield sum(h) / len(h)
    for round_ in gradients[1:]:
        for i, g in enumerate(round_):
            m[i] = momentum * m[i] + (1 - momentum) * g
            h[i] = h[i] + compress(m[i] - h[i])
        yield sum(h) / len(h)


def ef21_weighted(gradients, compress, weights):
    """EF21-W as it is published: rescaled gradients on the workers, weights on the server."""
    n = len(weights)
    h = [g / (n * w) for g, w in zip(gradients[0], weights, strict=True)]
    yield sum(w * one for w, one in zip(weights, h, strict=True))
    for round_ in gradients[1:]:
        for i, g in enumerate(round_):
            h[i] = h[i] + compress(g / (n * weights[i]) - h[i])
        yield sum(w * one for w, one in zip(weights, h, strict=True))


def econtrol(gradients, compress, eta):
    h = [g.copy() for g in gradients[0]]
    e = [np.zeros_like(g) for g in gradients[0]]
    yield sum(h) / len(h)
    for round_ in gradients[1:]:
        for i, g in enumerate(round_):
            delta = compress(eta * e[i] + g - h[i])
            e[i] = e[i] + g - h[i] - delta
            h[i] = h[i] + delta
        yield sum(h) / len(h)


def dgc(gradients, sizes, ratio_of, momentum, nesterov=False, clip=None, masking=True):
    """`gradients` are rounds of workers' lists of parameters; those of one number each in `sizes` None are vectors."""
    n = len(gradients[0])
    u = [[np.zeros_like(p) for p in worker] for worker in gradients[0]]
    v = [[np.zeros_like(p) for p in worker] for worker in gradients[0]]
    buffers = [np.zeros_like(p) for p in gradients[0][0]]
    for step, round_ in enumerate(gradients, start=1):
        update = [np.zeros_like(p) for p in round_[0]]
        for i, worker in enumerate(round_):
            norm = math.sqrt(sum((p**2).sum() for p in worker))
            factor = 1.0 if clip is None else min(1.0, clip / math.sqrt(n) / norm)
            for j, p in enumerate(worker):
                g = factor * p
                if not sizes[j]:
                    update[j] += g / n
                    continue
                if nesterov:
                    u[i][j] = momentum * (u[i][j] + g)
                    v[i][j] = v[i][j] + u[i][j] + g
                else:
                    u[i][j] = momentum * u[i][j] + g
                    v[i][j] = v[i][j] + u[i][j]
                k = math.ceil(ratio_of(step) * g.size)
                for place in np.argsort(-np.abs(v[i][j]).ravel())[:k]:
                    update[j].ravel()[place] += v[i][j].ravel()[place] / n
                    v[i][j].ravel()[place] = 0
                    if masking:
                        u[i][j].ravel()[place] = 0
        for j, size in enumerate(sizes):
            if not size:
                mean = update[j]
                buffers[j] = momentum * buffers[j] + mean
                update[j] = mean + momentum * buffers[j] if nesterov else buffers[j]
        yield update


def gram_schmidt(p):
    made = np.zeros_like(p)
    for column in range(p.shape[1]):
        rest = p[:, column].copy()
        for _ in range(2):  # twice is enough
            for other in range(column):
                rest -= (made[:, other] @ rest) * made[:, other]
        made[:, column] = rest / np.linalg.norm(rest)
    return made


def powersgd(rounds, q, warm_start=True, fresh=None):
    """Yield the mean and every worker's own reconstruction, for rounds of workers' matrices."""
    for step, matrices in enumerate(rounds, start=1):
        start = q if warm_start else fresh(step)
        p = gram_schmidt(sum(m @ start for m in matrices) / len(matrices))
        right = [m.T @ p for m in matrices]
        q = sum(right) / len(right)
        yield p @ q.T, [p @ r.T for r in right]
