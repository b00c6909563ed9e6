"""What a name means, in a heading, a field or a line of a log: which column, of which split, in which unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sooner.forecast.numbers import SUFFIXES

ALIASES: dict[str, tuple[str, ...]] = {
    "step": (
        *("step", "steps", "globalstep", "globalsteps", "numupdates", "numupdate", "currentsteps", "currentstep"),
        *("trainerglobalstep", "optimizerstep", "trainstep", "trainingstep", "iter", "iters", "iteration"),
        *("iterations", "globaliter", "itr", "it", "totaltimesteps", "timesteps", "timestep", "update", "updates", "s"),
        *("tree", "round", "boostinground", "niter", "niters", "nstep", "nsteps", "stepnum", "stepnumber", "up"),
    ),
    "loss": (
        *("valloss", "validationloss", "evalloss", "losscval", "testloss", "loss", "trainloss", "trainingloss"),
        *("crossentropy", "ce", "finalloss", "finalval", "finalvalloss"),
    ),
    "before": ("before", "lossbefore", "beforeloss", "lossbeforedecay", "lossbeforecooldown"),
    "perplexity": ("valppl", "valperplexity", "evalperplexity", "testppl", "perplexity", "ppl", "pplx"),
    "lr": ("lr", "learningrate", "optimlearningrategroup0", "lrrate"),
    "parameters": (
        *("parameters", "params", "nparams", "numparams", "modelsize", "size", "n", "nparameters", "parametercount"),
        *("paramcount", "numparameters", "numberofparameters", "totalparameters", "totalparams", "modelparameters"),
        *("modelparams",),
    ),
    "tokens": (
        *("tokens", "ntokens", "trainingtokens", "totaltokens", "throughputtotaltokens", "d"),
        *("seenexamples", "samples", "numtokens", "tokensseen", "seentokens", "traintokens", "consumedtokens"),
        *("numinputtokensseen", "samplesseen", "consumedsamples", "nsamples", "examples", "images"),
    ),
    "compute": ("compute", "flop", "flops", "trainingflop", "trainingflops", "flops6nd", "c", "totalflops"),
    "batch": ("batch", "batchsize", "globalbatchsize", "batchsizeintokens", "bs"),
    "unique_tokens": ("uniquetokens", "uniquedata", "u"),
    "experts": ("experts", "nexperts", "numexperts", "e"),
    "width": ("width", "dmodel", "hiddensize", "nembd"),
    "error": ("error", "err", "errorrate", "testerror", "valerror"),
    "accuracy": ("valaccuracy", "valacc", "testaccuracy", "testacc", "evalaccuracy", "accuracy", "acc"),
    "epoch": ("epoch", "epochs", "ep", "trainerepoch", "currentepoch", "epochnum"),
    "seconds": (
        *("seconds", "time", "timeseconds", "traintimes", "submissiontimes", "walltime", "runtime", "timestamp"),
        *("elapsed", "elapsedtime", "relativetime"),
    ),
    "run": ("run", "runname", "runid", "name", "model", "trial", "seed", "id"),
}
"""Headings in lower case without punctuation, the preferred one first."""
KINDS = ("model", "trial", "seed")
"""Headings that name runs among curves; in a table of final losses they name kinds of runs, with a run in each row."""

VALIDATION, TEST, TRAINING = "validation", "test", "training"
SPLITS = (VALIDATION, TEST, "", TRAINING)
"""Of a loss, the preferred first; the empty one did not say."""
_SPLIT_WORDS = {
    **dict.fromkeys(
        ("val", "valid", "validation", "validate", "validating", "eval", "evaluation", "evaluating", "dev", "cv"),
        VALIDATION,
    ),
    **dict.fromkeys(("heldout", "holdout", "held"), VALIDATION),
    **dict.fromkeys(("test", "tst", "testing", "tel"), TEST),
    **dict.fromkeys(("train", "training", "trn", "tr", "trl", "learn"), TRAINING),
}
_BARE = frozenset(_SPLIT_WORDS) - {"tr", "cv", "testing", "held", "validating", "evaluating"}
"""Names of splits that mean their loss where they stand alone, as in "250 val 3.21"."""
BARE = 900
"""The rank of such a name."""
_LOSSES = (
    *(
        "loss",
        "losses",
        "totalloss",
        "losstotal",
        "lmloss",
        "mlmloss",
        "languagemodelloss",
        "mainloss",
        "taskloss",
        "crossentropy",
        "crossentropyloss",
        "celoss",
    ),
    *("ce", "xent", "nll", "nllloss", "bce", "bceloss", "logloss", "binarylogloss", "multilogloss", "mlogloss"),
    *("softmaxloss", "negativeloglikelihood", "objective", "cost", "bpb", "bpc", "bitsperbyte"),
    *("mse", "mseloss", "rmse", "mae", "l1", "l2", "huber", "quantile", "poisson", "mape", "deviance"),
)
_SCORES = {
    "perplexity": ("ppl", "perplexity", "pplx"),
    "accuracy": ("accuracy", "acc", "top1", "acc1", "top1acc", "top1accuracy", "acctop1", "binaryaccuracy"),
    "error": ("error", "err", "errorrate", "merror"),
}
_FILLERS = frozenset(
    (
        *(
            "avg",
            "average",
            "mean",
            "running",
            "smoothed",
            "smooth",
            "epoch",
            "step",
            "iter",
            "batch",
            "value",
            "values",
            "metrics",
            "metric",
            "per",
        ),
        *(
            "token",
            "tokens",
            "the",
            "at",
            "is",
            "was",
            "of",
            "s",
            "on",
            "set",
            "current",
            "cur",
            "final",
            "nats",
            "bits",
            "bit",
            "dataloader",
            "idx",
            "subset",
        ),
        *(
            "sparse",
            "categorical",
            "score",
            "reduced",
            "so",
            "out",
            "far",
        ),
    )
)
_ODD_RATES = frozenset(
    (
        *(
            "scale",
            "mult",
            "multiplier",
            "factor",
            "ratio",
            "m",
            "decay",
            "schedule",
            "scheduler",
            "warmup",
            "min",
            "max",
            "mul",
        ),
    )
)
_STEPS = ("step", "steps", "iter", "iters", "iteration", "iterations", "it", "itr", "update", "updates", "timesteps")
_QUALIFIERS = frozenset(
    (
        *(
            "global",
            "train",
            "training",
            "trainer",
            "current",
            "completed",
            "optimizer",
            "optim",
            "opt",
            "num",
            "number",
            "finished",
            "total",
        ),
    )
)
_LOGGING = frozenset(
    (
        *(
            "info",
            "debug",
            "warning",
            "warn",
            "error",
            "root",
            "main",
            "trainer",
            "worker",
            "stdout",
            "stderr",
            "log",
            "logger",
        ),
    )
)
_BEFORE_AXIS = frozenset(("at", "after", "for", "of", "on", "in", "end", "begin", "start"))
_UNIT = re.compile(r"\s*[(\[]\s*(?:in\s+|[x×]\s*)?(?P<unit>[A-Za-z%/]+|1e\d+)\s*[)\]]\s*$")
_SHORT = re.compile(r"(?<=[a-z])[_ ](?P<unit>[KMBT])$")
_WORDS = {"thousands": 1e3, "millions": 1e6, "billions": 1e9, "trillions": 1e12}


@dataclass(frozen=True)
class Meaning:
    """What a name means.

    Args:
        column: one of `ALIASES`.
        split: of a loss or score, one of `SPLITS`.
        rank: the lower, the more exactly it says so.
        factor: what its numbers are to be multiplied by, 1e6 in "params (M)".
    """

    column: str
    split: str = ""
    rank: int = 0
    factor: float = 1.0


@lru_cache(maxsize=20_000)
def plain(heading: str) -> str:
    """Return a heading as `ALIASES` has it."""
    return re.sub(r"[^a-z0-9]", "", heading.lower())


def split_of(text: str) -> str:
    """Return the split that a word is a name of, such as validation for dev; nothing where it names none."""
    return _SPLIT_WORDS.get(text.strip().lower(), "")


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: of "train/CrossEntropyLoss" train, cross, entropy and loss."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", parted.lower()) if word]


@lru_cache(maxsize=20_000)
def meaning(name: str) -> Meaning | None:
    """Return what a name means, None where it is nothing that a law reads."""
    factor = 1.0
    if (unit := _UNIT.search(name)) and (known := _factor(unit["unit"])):
        name, factor = name[: unit.start()], known
    elif (unit := _SHORT.search(name)) and plain(name[: unit.start()]) in _COUNTS:
        name, factor = name[: unit.start()], SUFFIXES[unit["unit"].lower()]
    exact = plain(name)
    for column, aliases in ALIASES.items():
        if exact in aliases and column not in ("loss", "perplexity", "accuracy", "error"):
            return Meaning(column, "", aliases.index(exact), factor)
    words = words_of(name)
    found = _axis(words) or _score(words) or _rate(words)
    if found is not None:
        return found
    if exact in ALIASES["loss"]:
        return Meaning("loss", VALIDATION if "val" in exact else "", ALIASES["loss"].index(exact))
    last = name.rsplit("/", 1)[-1]
    return meaning(last) if last != name and plain(last) in _LAST else None


_COUNTS = frozenset((*ALIASES["parameters"], *ALIASES["tokens"]))
_LAST = frozenset((*ALIASES["tokens"], *ALIASES["epoch"], *ALIASES["step"], *ALIASES["lr"])) - {"d", "s"}
"""Names that mean the same behind a path, as in throughput/total_tokens."""


def _factor(unit: str) -> float | None:
    if unit in ("K", "k", "M", "B", "G", "T"):
        return SUFFIXES[unit.lower()]
    if unit.startswith("1e"):
        return float(unit)
    return 1e-3 if unit == "ms" else _WORDS.get(unit.lower(), 1.0)


def _score(words: list[str]) -> Meaning | None:
    """Return what words such as valid, 1, s, l2 mean: the split, and the loss or score that is left."""
    splits = [_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS]
    split = next((one for one in splits if one != TRAINING), splits[0] if splits else "")
    left = [w for w in words if w not in _SPLIT_WORDS and w not in _FILLERS and not w.isdecimal()]
    text = "".join(left)
    shown = len(words) - len(left)
    if not left:
        bare = [w for w in words if w in _BARE]
        if len(bare) == 1 and all(w == bare[0] or w.isdecimal() for w in words):
            return Meaning("loss", split, BARE)
        return Meaning("loss", "", 990) if words == ["value"] else None
    if text in _LOSSES:
        return Meaning("loss", split, 10 * _LOSSES.index(text) + min(shown, 9))
    for column, names in _SCORES.items():
        if (
            text in names
            or (digits := "".join(w for w in words if w not in _SPLIT_WORDS and w not in _FILLERS)) in names
        ):
            if column == "accuracy" and any(w.isdecimal() and w not in ("1", "0") for w in words):
                return None  # of the best five, which is another score
            return Meaning(column, split, 10 * (names.index(text) if text in names else names.index(digits)) + shown)
    return None


def _axis(words: list[str]) -> Meaning | None:
    """Return what words mean that end in an axis: global step, completed step, validation loss at iteration."""
    if not words:
        return None
    column = "step" if words[-1] in _STEPS else "epoch" if words[-1] in ("epoch", "epochs") else None
    if column is None:
        return None
    aliases = ALIASES[column]
    before = words[:-1]
    if before and before[-1] in _BEFORE_AXIS:
        before = []
    while before and before[-1] in _QUALIFIERS and (before[-1] != "total" or words[-1] == "timesteps"):
        before = before[:-1]
        if before and before[-1] in _BEFORE_AXIS:
            before = []
    return (
        None if set(before) - _LOGGING else Meaning(column, "", aliases.index(words[-1]) if words[-1] in aliases else 5)
    )


def _rate(words: list[str]) -> Meaning | None:
    """Return what words mean that begin or end in a learning rate: lr-AdamW, train_lr, lr/group0."""
    text = " ".join(words)
    found = re.fullmatch(r"(?:\w+ )?(?:lr|learning rate|learningrate)((?: \w+)*)", text)
    if found is None or set(words) & _ODD_RATES or len(words) > 5:
        return None
    return Meaning("lr", "", 10 + len(words))
