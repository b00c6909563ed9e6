"""What every part declares to the contract: a recipe in which it trains a tiny net, and what is not so simple of it.

A part without an entry fails the suite, so that whoever adds one says here, in a line, how it is used.
"""

from dataclasses import dataclass

from sooner import part


@dataclass(frozen=True)
class Declared:
    """A part's entry.

    Args:
        recipe: in which it trains `generous_task`, with numbers that fit six steps.
        workers: of a simulated cluster; 1 for none.
        refused: why a recipe cannot use it at all, as a word of the sentence; empty where it can.
        looks: why it has to see the numbers that it works on, so that a device has to be waited for or weights have to
            be there; empty where a step only gives orders.
        unscaled: why gradients can't be those of a scaled loss, as words of the refusal; empty where they can.
    """

    recipe: str
    workers: int = 1
    refused: str = ""
    looks: str = ""
    unscaled: str = ""


def _of_cluster(**recipes):
    return {name: Declared(recipe, workers=2) for name, recipe in recipes.items()}


def _plain(*names, station):
    shapes = {"update": "{}", "schedule": "adamw + {}", "gradient": "{} + adamw"}
    return {name: Declared(shapes[station].format(name)) for name in names}


DECLARED = {
    **_plain("adabelief", "adagrad_norm", "adamp", "adamw", "diffgrad", "lion", "muon", station="update"),
    **_plain("adan", "ademamix", "all_round", "kl_shampoo", "nadamw", "prodigy", "soap", station="update"),
    **_plain("schedule_free_adamw", station="update"),
    "schedule_free_sgd": Declared("schedule_free_sgd(lr=0.1)"),
    **_plain("adamuon", "mars", "normuon", station="update"),
    **_plain("normalized_gd", "root", "sgd", "sgd_sai", "sgdp", "sophia_g", "sophia_h", station="update"),
    **_plain("normalized_logistic_gd", station="update"),
    "apollo": Declared("apollo", looks="projections are drawn on the device, and meta draws nothing"),
    "apollo_mini": Declared("apollo_mini", looks="projections are drawn on the device, and meta draws nothing"),
    "grad_norm_smooth": Declared("grad_norm_smooth", looks="a step is accepted by its loss"),
    "leap_verify": Declared("adamw + leap_verify(interval=2, ahead=1)", looks="a leap is accepted by its loss"),
    "hyperball": Declared("adamw + hyperball", looks="initial weights"),
    "softmax_ghosts": Declared("adamw + softmax_ghosts"),
    **_plain("constant", "cosine", "linear", "refined", "uba", "warmup_stable_decay", station="schedule"),
    "adadagrad": Declared("adamw + adadagrad", refused="batch size"),
    "batch_scaling": Declared("adamw + batch_scaling(batch=64, base_batch=32)"),
    **_plain("clip_adaptive", "clip_norm", "clip_value", "perpgrad", "cma_harmony", station="gradient"),
    "conadv": Declared("conadv + adamw", looks="it attacks the batch, which the test keeps off the device"),
    "deepzero": Declared("deepzero(method='rge', directions=8) + sgd"),
    "cooldown": Declared("cooldown + adamw"),
    "orthogonal": Declared("orthogonal + adamw", looks="initial weights"),
    "dora": Declared("dora(rank=2) + adamw", looks="initial weights"),
    "four_bit": Declared("four_bit + adamw"),
    "stablemax": Declared("stablemax + adamw"),
    "ema": Declared("adamw + ema", looks="initial weights"),
    "power_ema": Declared("adamw + power_ema", looks="initial weights"),
    "mixture": Declared("adamw + mixture(every=2, keep=3, probes=2)", looks="snapshots are mixed by their losses"),
    "gradient_release": Declared("adamw + gradient_release", unscaled="a GradScaler"),
    "lazy_saver": Declared("adamw + lazy_saver"),
    "low_bit_state": Declared("adamw + low_bit_state"),
    "u_shaped": Declared("adamw + u_shaped"),
    "topr": Declared("adamw + topr"),
    "speculative": Declared("adamw + speculative", refused="draft model"),
    **_of_cluster(
        dense="dense + sgd",
        bf16="bf16 + sgd",
        fp16="fp16 + sgd",
        int8="int8(block=16) + sgd",
        sign="ef + sign + sgd",
        top_k="top_k(ratio=0.2) + sgd",
        random_k="random_k(ratio=0.2) + sgd",
        powersgd="powersgd(rank=1) + sgd",
        dgc="dgc(ratio=0.2) + sgd(momentum=0)",
        ef="ef + top_k(ratio=0.2) + sgd",
        ef21="ef21 + top_k(ratio=0.2) + sgd",
        ef21_momentum="ef21_momentum + top_k(ratio=0.2) + sgd",
        ef21_w="ef21_w + top_k(ratio=0.2) + sgd",
        econtrol="econtrol + top_k(ratio=0.2) + sgd",
        local_sgd="local_sgd(every=2) + sgd",
        diloco="diloco(every=2) + adamw",
        streaming_diloco="streaming_diloco(every=2, fragments=2, delay=1) + adamw",
        noloco="noloco(every=2) + adamw",
        snoo="snoo(every=2) + adamw",
        co2="co2(every=2) + sgd",
        gossip="gossip(every=2) + sgd",
        silent="silent + sgd",
        spes="spes(every=2, experts='experts.{}.*', merge_every=4, merge_until=4, neighbours=1) + adamw",
        afa_cd="sampled(share=0.5) + afa_cd(every=2) + sgd",
        afa_cs="anarchic(share=0.5) + afa_cs(every=2) + sgd",
        anarchic="anarchic(share=0.5) + afa_cs(every=2) + sgd",
        sampled="sampled(share=0.5) + local_sgd(every=2) + sgd",
        curriculum="curriculum(share=0.5) + local_sgd(every=2) + sgd",
        full="full + local_sgd(every=2) + sgd",
        fedhyper="fedhyper(every=2) + sgd",
        fedhyper_clients="fedhyper_clients + local_sgd(every=2) + sgd",
        fedspeed="fedspeed + local_sgd(every=2) + sgd",
        proximal="proximal + local_sgd(every=2) + sgd",
        sam="sam + local_sgd(every=2) + sgd",
    ),
}

NAMES = part.names()
