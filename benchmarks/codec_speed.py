"""What encoding and decoding cost on one thread, against copying the vector once and against torch's own fp16 hook.

    python benchmarks/codec_speed.py [--millions 5] [--rounds 7] [--recipes "top_k + ef; powersgd(rank=2) + ef"]

"hook" is the arithmetic of torch's `fp16_compress_hook`: to float16, divided by the number of workers, and back. The
codecs' times are those of a whole exchange without a network: memory, encoding, decoding what one worker sent, and the
share of the vector that was lost. "copies" is that over one copy of the vector, which is what the memory allows.
"pages" are fetched from the operating system for fresh vectors, which is most of the time where the C library gives
freed memory back at once; with MALLOC_TRIM_THRESHOLD_=10000000000 MALLOC_MMAP_THRESHOLD_=1000000000 in the environment
it keeps them. Candidates take turns; ratios are of the same round, in processor time, which neighbours disturb least.
"""

from __future__ import annotations

import statistics

import cyclopts
import torch
from _interleaved import block_length, interleave, spread

from sooner.communication import Exchange, Group, Layout
from sooner.communication._codec import Codec
from sooner.communication._memory import Memory
from sooner.communication._refusals import only
from sooner.recipe import Recipe

RECIPES = (
    "dense; fp16; bf16; int8; int8 + ef; sign; sign + ef; random_k(ratio=0.01); random_k(ratio=0.01) + ef; "
    "top_k(ratio=0.01); top_k(ratio=0.01) + ef; top_k(ratio=0.001) + ef; top_k(ratio=0.01, select='sampled') + ef; "
    "top_k(ratio=0.01, per='parameter') + ef; top_k(ratio=0.01) + ef21; top_k(ratio=0.01) + ef21_momentum; "
    "top_k(ratio=0.01) + econtrol; dgc(ratio=0.001); powersgd(rank=1) + ef; powersgd(rank=4) + ef"
)


def layout_of(numbers: int) -> Layout:
    """Return a transformer's: layers of 12 matrices' worth of weights and their vectors, filled up by an embedding."""
    width = 256 if numbers > 2_000_000 else 16
    layers = max(1, numbers * 4 // 5 // (12 * width * width))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        shapes |= {f"{layer}.qkv": (3 * width, width), f"{layer}.out": (width, width)}
        shapes |= {f"{layer}.up": (4 * width, width), f"{layer}.down": (width, 4 * width)}
        shapes |= {f"{layer}.norm{i}": (width,) for i in range(4)}
    rest = numbers - Layout(shapes).size
    return Layout({**shapes, "embedding": (max(1, rest // width), width)})


def main(*, millions: float = 5.0, rounds: int = 7, recipes: str = RECIPES, at_once: int = 4) -> None:
    """Print a row for every recipe.

    Args:
        millions: numbers in the vector.
        rounds: how often every candidate has its turn.
        recipes: communication parts, separated by semicolons.
        at_once: how many share a block of rounds; their state is in memory at the same time.
    """
    torch.set_num_threads(1)
    layout = layout_of(round(millions * 1e6))
    g = torch.randn(layout.size, generator=torch.Generator().manual_seed(0))
    into = torch.empty_like(g)
    texts = [text.strip() for text in recipes.split(";")]
    print(f"== {layout.size / 1e6:.2f} million numbers in {len(layout.shapes)} parameters, float32, one thread")
    print(f"  {'':44} {'ms':>8} {'over the hook':>26} {'copies':>26} {'payload':>9} {'pages':>7}")
    for first in range(0, len(texts), at_once):
        exchanges = {text: _exchange(text, layout) for text in texts[first : first + at_once]}
        candidates = {text: (lambda one=one: one(g)) for text, one in exchanges.items()}
        candidates |= {"copy": lambda: into.copy_(g), "hook": lambda: into.copy_(g.half().div_(2))}
        calls = {name: block_length(one) for name, one in candidates.items()}
        timed = interleave(candidates, rounds, calls)
        for text, exchange in exchanges.items():
            traffic, over = exchange.wire.traffic, {}
            for base in ("hook", "copy"):
                over[base] = spread([r.cpu[text] / r.cpu[base] for r in timed])
            seconds = statistics.median(r.cpu[text] for r in timed)
            faults = statistics.median(r.faults[text] for r in timed)
            share = traffic.payload_bytes / exchange.steps / (4 * layout.size)
            print(
                f"  {text:44} {1e3 * seconds:8.2f} {over['hook']:>26} {over['copy']:>26} {share:9.5f} {faults:7.0f}",
                flush=True,
            )


def _exchange(text: str, layout: Layout) -> Exchange:
    slots = [s for s in Recipe(f"sgd + {text}").slots if s.station == "communication"]
    parts = [s.factory(**s.settings) for s in slots]
    return Exchange(layout, Group(), only(parts, Codec), only(parts, Memory))


if __name__ == "__main__":
    cyclopts.run(main)
