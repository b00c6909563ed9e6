"""Workers that come and go: a wire over the manager of torchft, which decides who takes part in every step.

    manager.start_quorum(); loss.backward(); training.average_gradients()
    if manager.should_commit(): training.step()
    training.zero_grad()

torchft is an optional extra (``pip install 'sooner[torchft]'``); it brings who joins to the state of the others.
"""

from __future__ import annotations

from typing import Any, NoReturn

from torch import Tensor

from sooner.communication._wire import Payload, Wire
from sooner.error import SoonerError


class TorchFT(Wire):
    """Averages over whoever takes part; where that failed, `should_commit` says no and the numbers are this worker's.

    Args:
        manager: a ``torchft.Manager``.
    """

    def __init__(self, manager: Any) -> None:
        super().__init__()
        self.manager = manager
        self._size = 2  # before the first quorum nobody knows; others may come

    @property
    def size(self) -> int:
        """Number of workers that took part in the last exchange."""
        return self._size

    @property
    def rank(self) -> int:
        """0: workers that come and go have no numbers of their own."""
        return 0

    @property
    def lead(self) -> tuple[int, ...]:
        """``()``."""
        return ()

    def _mean(self, payload: Payload) -> Payload:
        if not all(part.is_floating_point() for part in payload):
            self._refuse()
        made = tuple(part.clone() for part in payload)
        for part in made:
            self.manager.allreduce(part).wait()
        self._size = max(1, self.manager.num_participants())
        return made if self.manager.errored() is None else payload  # what is in `made` then may be anything

    def _gather(self, payload: Payload) -> Payload:
        self._refuse()

    def _swap(self, payload: Payload, partners: Tensor) -> Payload:
        self._refuse()

    def _mix(self, v: Tensor, weights: Tensor) -> Tensor:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SoonerError("torchft only averages; use a part whose payloads add up, such as dense, fp16 or powersgd")
