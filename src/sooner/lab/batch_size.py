"""Larger batches need fewer steps, in proportion at first and hardly any more beyond a critical size."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Criterion, Setting, Truth
from sooner.lab._variants import Arm, arms

_SGD, _ADAMW = "sgd(lr={rate}, momentum=0.0)", "adamw(lr={rate})"


def _saturated(large: str, small: str, at_least: float) -> Criterion:
    return Criterion(
        f"{large}: still at least {at_least:g}x of the steps of {small}, a quarter of it",
        lambda f: f.paired_ratio("runs", "reached", {"change": large}, {"change": small}),
        at_least=at_least,
        paper="1x far beyond the critical size",
    )


TRUTH = Truth(
    name="batch_size",
    says="Larger batches need fewer steps: in proportion while small, hardly any fewer beyond a critical size.",
    source="Shallue et al., 2019, arXiv 1811.03600, section 4.1; McCandlish et al., 2018, arXiv 1812.06162",
    expected="0.25x of the steps for four times the batch at first, 1x in the end",
    on={
        "quadratic": Setting(
            {
                "runs": arms(
                    Arm("quadratic", change, _SGD, (0.03, 0.1, 0.3, 1.0), steps, 0.1)
                    for change, steps in (
                        ("as it is", 600),
                        ("batches of 4 draws", 300),
                        ("batches of 16 draws", 200),
                        ("batches of 64 draws", 200),
                    )
                )
            },
            [
                changed("batches of 4 draws", "as it is", 0.6, "reached", paper="0.25x"),
                _saturated("batches of 64 draws", "batches of 16 draws", 0.7),
            ],
            seconds=60,
        ),
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", change, _SGD, (0.1, 0.3, 1.0, 3.0), steps, 0.2)
                    for change, steps in (
                        ("batches of 16 images", 500),
                        ("as it is", 250),
                        ("batches of 256 images", 150),
                        ("batches of 1024 images", 100),
                    )
                )
            },
            [
                changed("as it is", "batches of 16 images", 0.7, "reached", paper="0.25x"),
                _saturated("batches of 1024 images", "batches of 256 images", 0.7),
            ],
            seconds=120,
        ),
        "charlm": Setting(
            {
                "runs": arms(
                    Arm("charlm", change, _ADAMW, (0.001, 0.003, 0.01), steps, 2.3)
                    for change, steps in (
                        ("batches of 2 windows", 1500),
                        ("as it is", 600),
                        ("batches of 32 windows", 300),
                    )
                )
            },
            [
                changed("as it is", "batches of 2 windows", 0.6, "reached", paper="0.25x"),
                _saturated("batches of 32 windows", "as it is", 0.4),
            ],
            seconds=250,
        ),
    },
)
