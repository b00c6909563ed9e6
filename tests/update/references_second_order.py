"""Second-order rules once more, transcribed from their papers, with no line shared with sooner."""

import math

import numpy as np
import torch


def sophia(parameters, gradients, memory, step, lr, betas, rho, weight_decay, denominator):
    """One step of Sophia; the curvature is put into memory[i]["h"] by whoever estimates it."""
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        p.mul_(1 - lr * weight_decay)
        kept["m"] = betas[0] * kept.get("m", 0) + (1 - betas[0]) * g
        below = denominator(rho * kept.get("h", torch.zeros_like(p)))
        p.sub_(lr * torch.sign(kept["m"]) * torch.minimum(torch.abs(kept["m"]) / below, torch.ones_like(p)))


def refresh(memory, estimates, beta):
    for kept, e in zip(memory, estimates, strict=True):
        kept["h"] = beta * kept.get("h", 0) + (1 - beta) * e


def softmax(z):
    e = torch.exp(z - z.max(1, keepdim=True).values)
    return e / e.sum(1, keepdim=True)


def gauss_newton_diagonal(x, weight, bias, shares):
    """Exact diagonal of ``sum_i shares_i J_i^T (diag p - p p^T) J_i`` for logits x W^T + b: for W and for b."""
    p = softmax(x @ weight.T + bias)
    v = p * (1 - p) * shares[:, None]
    return v.T @ x**2, v.sum(0)


def normalized_logistic_gd(points, labels, lr, limit=10000):
    """Iterations until all points (labels -1, +1) are on their side, from zero."""
    theta = np.zeros(points.shape[1])
    for t in range(limit):
        margins = labels * (points @ theta)
        if (margins > 0).all():
            return t
        residual = 1 / (1 + np.exp(np.minimum(margins, 700)))
        gradient = -(residual * labels) @ points / len(points)
        theta = theta - lr * gradient / residual.mean()
    return limit


def plain_logistic_gd(points, labels, lr, limit=10000):
    theta = np.zeros(points.shape[1])
    for t in range(limit):
        margins = labels * (points @ theta)
        if (margins > 0).all():
            return t
        residual = 1 / (1 + np.exp(np.minimum(margins, 700)))
        theta = theta + lr * (residual * labels) @ points / len(points)
    return limit


def grad_norm_smooth(value, gradient, hessian, x, gamma):
    """One step: returns the new x, the new gamma and the number of trials; x itself where all of them fail."""
    f, g, h = value(x), gradient(x), hessian(x)
    radius = gamma
    for trial in range(40):
        damping = np.linalg.norm(g) / (radius + 1e-8)
        try:
            lower = np.linalg.cholesky(h + damping * np.eye(len(x)))
        except np.linalg.LinAlgError:
            radius /= 2
            continue
        new = x - np.linalg.solve(lower.T, np.linalg.solve(lower, g))
        if f - value(new) >= np.linalg.norm(gradient(new)) ** 2 / (8 * damping):
            return new, max(2 * radius, 1e-9), trial + 1
        radius /= 2
    return x, gamma, 40


def ghost_radius(jacobian, direction):
    """``pi / max_i (spread of J_i v)`` for a Jacobian [n, classes, D] of the logits and a direction of any length."""
    drift = jacobian @ (direction / np.linalg.norm(direction))
    return math.pi / ((drift.max(1) - drift.min(1)).max() + 1e-12)


def quadratic_leap(now, before, earlier, reach):
    """Extrapolation of one tensor from three snapshots an interval apart."""
    v = now - before
    a = v - (before - earlier)
    size, most = np.linalg.norm(a), 0.5 * np.linalg.norm(v)
    if size > most:
        a = a * most / size
    return now + reach * v + 0.5 * reach**2 * a
