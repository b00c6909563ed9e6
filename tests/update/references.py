"""The update rules once more, transcribed from their papers one tensor at a time, with no line shared with sooner.

Each reference is a function ``(parameters, gradients, memory, step, **hyper-parameters)`` that changes parameters and
memory in place: `memory` holds one dict per parameter, empty before the first step, and `step` counts from 1.
"""

import math

import torch


def sgd(parameters, gradients, memory, step, lr, momentum=0.9, dampening=0.0, nesterov=False, weight_decay=0.0):
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        direction = g + weight_decay * p
        if momentum > 0:
            if "buffer" not in kept:
                kept["buffer"] = direction.clone()
            else:
                kept["buffer"] = momentum * kept["buffer"] + (1 - dampening) * direction
            direction = direction + momentum * kept["buffer"] if nesterov else kept["buffer"]
        p.sub_(lr * direction)


def adamw(parameters, gradients, memory, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    b1, b2 = betas
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        m = b1 * kept.get("m", 0) + (1 - b1) * g
        v = b2 * kept.get("v", 0) + (1 - b2) * g**2
        kept.update(m=m, v=v)
        m_hat, v_hat = m / (1 - b1**step), v / (1 - b2**step)
        p.mul_(1 - lr * weight_decay)
        p.sub_(lr * m_hat / (v_hat**0.5 + eps))


def adabelief(parameters, gradients, memory, step, lr, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0, rectify=True):
    b1, b2 = betas
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * step * b2**step / (1 - b2**step)
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        m = b1 * kept.get("m", 0) + (1 - b1) * g
        s = b2 * kept.get("s", 0) + (1 - b2) * (g - m) ** 2 + eps  # the new m; eps stays in the running mean
        kept.update(m=m, s=s)
        m_hat = m / (1 - b1**step)
        p.mul_(1 - lr * weight_decay)
        if not rectify:
            p.sub_(lr * m_hat / (torch.sqrt(s / (1 - b2**step)) + eps))
        elif rho >= 5:
            r = math.sqrt(((rho - 4) * (rho - 2) * rho_inf) / ((rho_inf - 4) * (rho_inf - 2) * rho))
            p.sub_(lr * r * m_hat * math.sqrt(1 - b2**step) / (torch.sqrt(s) + eps))
        else:
            p.sub_(lr * m_hat)


def lion(parameters, gradients, memory, step, lr, betas=(0.9, 0.99), weight_decay=0.0):
    b1, b2 = betas
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        m = kept.get("m", torch.zeros_like(p))
        c = b1 * m + (1 - b1) * g
        p.mul_(1 - lr * weight_decay)
        p.sub_(lr * torch.sign(c))
        kept["m"] = b2 * m + (1 - b2) * g


def ademamix(
    parameters, gradients, memory, step, lr, betas=(0.9, 0.999, 0.9999), alpha=5.0, eps=1e-8, weight_decay=0.0,
    alpha_warmup=0, beta3_warmup=0,
):  # fmt: skip
    b1, b2, b3 = betas
    a = min(step * alpha / alpha_warmup, alpha) if alpha_warmup else alpha
    if step < beta3_warmup:
        t = step / beta3_warmup
        b3 = min(b3, math.exp(math.log(b1) * math.log(b3) / ((1 - t) * math.log(b3) + t * math.log(b1))))
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        m1 = b1 * kept.get("m1", 0) + (1 - b1) * g
        m2 = b3 * kept.get("m2", 0) + (1 - b3) * g
        v = b2 * kept.get("v", 0) + (1 - b2) * g**2
        kept.update(m1=m1, m2=m2, v=v)
        direction = (m1 / (1 - b1**step) + a * m2) / (torch.sqrt(v / (1 - b2**step)) + eps)
        p.sub_(lr * (direction + weight_decay * p))


def adan(
    parameters, gradients, memory, step, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, proximal=True
):  # fmt: skip
    b1, b2, b3 = betas
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        d = g - kept.get("g", g)
        m = b1 * kept.get("m", 0) + (1 - b1) * g
        v = b2 * kept.get("v", 0) + (1 - b2) * d
        n = b3 * kept.get("n", 0) + (1 - b3) * (g + b2 * d) ** 2
        kept.update(m=m, v=v, n=n, g=g.clone())
        eta = lr / (torch.sqrt(n / (1 - b3**step)) + eps)
        way = eta * (m / (1 - b1**step) + b2 * v / (1 - b2**step))
        if proximal:
            p.copy_((p - way) / (1 + lr * weight_decay))
        else:
            p.sub_(way + lr * weight_decay * p)


def nadamw(
    parameters, gradients, memory, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, momentum_decay=4e-3
):  # fmt: skip
    b1, b2 = betas
    mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        m = b1 * kept.get("m", 0) + (1 - b1) * g
        v = b2 * kept.get("v", 0) + (1 - b2) * g**2
        product = kept.get("product", 1.0) * mu
        kept.update(m=m, v=v, product=product)
        m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        p.mul_(1 - lr * weight_decay)
        p.sub_(lr * m_bar / (torch.sqrt(v / (1 - b2**step)) + eps))


def mars(
    parameters, gradients, memory, step, lr, betas=(0.95, 0.99), eps=1e-8, weight_decay=0.0, gamma=0.025, max_norm=1.0,
    optimize_1d=False, lr_1d_factor=1.0, betas_1d=(0.9, 0.95),
):  # fmt: skip
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        if p.ndim < 2 and not optimize_1d:
            adamw([p], [g], [kept], step, lr * lr_1d_factor, betas_1d, eps, weight_decay)
            continue
        b1, b2 = betas
        c = g + gamma * b1 / (1 - b1) * (g - kept.get("g", g))
        kept["g"] = g.clone()
        norm = torch.sqrt((c * c).sum())
        if norm > max_norm:
            c = c / norm * max_norm
        kept["m"] = b1 * kept.get("m", 0) + (1 - b1) * c
        kept["v"] = b2 * kept.get("v", 0) + (1 - b2) * c**2
        direction = kept["m"] / (1 - b1**step) / (torch.sqrt(kept["v"] / (1 - b2**step)) + eps)
        p.sub_(lr * (direction + weight_decay * p))


def schedule_free(parameters, memory, step, direction, lr, beta, warmup=0, power=0.0, rate_power=2.0):
    """The paper's three sequences; the parameters are y."""
    rate = lr * min(1.0, step / warmup) if warmup else lr
    for number, (y, kept) in enumerate(zip(parameters, memory, strict=True)):
        z, x = kept.get("z", y.clone()), kept.get("x", y.clone())
        highest = max(rate, kept.get("highest", 0.0))
        weight = step**power * highest**rate_power
        total = kept.get("total", 0.0) + weight
        z = z - rate * direction(number)
        x = x + weight / total * (z - x)
        kept.update(z=z, x=x, highest=highest, total=total)
        y.copy_((1 - beta) * z + beta * x)


def schedule_free_sgd(parameters, gradients, memory, step, lr, beta=0.9, weight_decay=0.0, **average):
    def direction(number):
        return gradients[number] + weight_decay * parameters[number]

    schedule_free(parameters, memory, step, direction, lr, beta, **average)


def schedule_free_adamw(
    parameters, gradients, memory, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **average
):
    def direction(number):
        g, kept = gradients[number], memory[number]
        kept["v"] = betas[1] * kept.get("v", 0) + (1 - betas[1]) * g**2
        return g / (torch.sqrt(kept["v"] / (1 - betas[1] ** step)) + eps) + weight_decay * parameters[number]

    schedule_free(parameters, memory, step, direction, lr, betas[0], **average)


def prodigy(
    parameters, gradients, memory, step, lr=1.0, betas=(0.9, 0.999), beta3=None, eps=1e-8, weight_decay=0.0, d0=1e-6,
    d_coef=1.0, growth_rate=math.inf, bias_correction=False, safeguard_warmup=False,
):  # fmt: skip
    """The paper's algorithm with the factors d / d0 of the authors; the model's own is kept with the first."""
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3
    model = memory[0]
    d, largest, r = model.get("d", d0), model.get("largest", d0), b3 * model.get("r", 0.0)
    rate = lr * ((1 - b2**step) ** 0.5 / (1 - b1**step) if bias_correction else 1.0)
    norm, ways = 0.0, []
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        origin = kept.setdefault("origin", p.clone())
        r += d / d0 * d * rate * (g * (origin - p)).sum().item()
        kept["m"] = b1 * kept.get("m", 0) + (1 - b1) * d * g
        kept["v"] = b2 * kept.get("v", 0) + (1 - b2) * (d * g) ** 2
        kept["s"] = b3 * kept.get("s", 0) + d / d0 * d * (1.0 if safeguard_warmup else rate) * g
        norm += kept["s"].abs().sum().item()
        ways.append(d * rate * (kept["m"] / (torch.sqrt(kept["v"]) + d * eps) + weight_decay * p))
    estimate = d_coef * r / norm if norm else 0.0
    grown = max(d, estimate) if d == d0 else d
    largest = max(largest, estimate)
    model.update(d=min(largest, grown * growth_rate), largest=largest, r=r)
    for p, way in zip(parameters, ways, strict=True):
        p.sub_(way)


def muon_matrix(
    parameters, gradients, memory, step, lr, momentum=0.95, nesterov=True, weight_decay=0.0, iterations=5,
    as_adamw=False,
):  # fmt: skip
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        b = momentum * kept.get("b", 0) + (1 - momentum) * g
        kept["b"] = b
        d = (1 - momentum) * g + momentum * b if nesterov else b
        matrix = d.reshape(len(d), -1)
        rows, columns = matrix.shape
        x = matrix.T if rows > columns else matrix
        x = x / (torch.sqrt((x * x).sum()) + 1e-7)
        for _ in range(iterations):
            a = x @ x.T
            x = 3.4445 * x - 4.7750 * (a @ x) + 2.0315 * (a @ (a @ x))
        orthogonal = (x.T if rows > columns else x).reshape(p.shape)
        p.mul_(1 - lr * weight_decay)
        scale = 0.2 * math.sqrt(max(rows, columns)) if as_adamw else math.sqrt(max(1, rows / columns))
        p.sub_(lr * scale * orthogonal)


def normalized_gd(parameters, gradients, memory, step, lr, momentum=0.0, eps=1e-12):
    norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        kept["b"] = momentum * kept.get("b", 0) + g / (norm + eps)
        p.sub_(lr * kept["b"])
