"""What a truth is: a sentence that holds for everybody, where it should be seen, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sooner.claims._claim import Criterion, Measurement, Race
from sooner.claims._findings import Findings
from sooner.claims._measured import Measured

__all__ = ["Criterion", "Findings", "Measured", "Measurement", "Race", "Setting", "Truth"]


@dataclass(frozen=True)
class Setting:
    """How a truth is looked for on one workload.

    Args:
        experiments: by name; races are shared with other truths, which name the same race of `_races`.
        criteria: what decides, fixed before the run; the truth is shown where all of them are met.
        seconds: processor seconds of the measurements among the experiments, for the estimate.
        absent: why the workload can't show the truth, where it is known that it does not; empty where it should.
    """

    experiments: Mapping[str, Race | Measurement]
    criteria: Sequence[Criterion]
    seconds: float = 0.0
    absent: str = ""


@dataclass(frozen=True)
class Truth:
    """An effect that every practitioner relies on, or one whose size is known by construction.

    Args:
        name: its name, which is that of its file.
        says: the effect in one sentence.
        source: where it stands: a paper or textbook, with the section.
        expected: the size that the source gives, or what construction makes certain.
        on: how it is looked for, by workload.
        oracle: whether the size is known by construction.
    """

    name: str
    says: str
    source: str
    expected: str
    on: Mapping[str, Setting] = field(default_factory=dict)
    oracle: bool = False

    @property
    def experiments(self) -> dict[str, Race | Measurement]:
        """All experiments, named ``workload: experiment``."""
        return {f"{w}: {name}": one for w, setting in self.on.items() for name, one in setting.experiments.items()}

    def miniature(self) -> Truth:
        """Return the truth with experiments of seconds, which show nothing."""
        small = {
            w: replace(s, experiments={name: one.miniature() for name, one in s.experiments.items()})
            for w, s in self.on.items()
        }
        return replace(self, on=small)
