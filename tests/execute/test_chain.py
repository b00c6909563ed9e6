"""What a chain says of its rules: the state they keep, of which shape, and whether they read the parameters."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from sooner.transform import Quantity, Reduction, Rescale, Transform, chain, decay
from sooner.update.normalized_logistic_gd import Scale


@dataclass(frozen=True)
class Piecewise(Transform):
    slots: ClassVar[tuple[str, ...]] = ("piece",)


@dataclass(frozen=True)
class Whole(Transform):
    grain: ClassVar[str] = "tensor"
    slots: ClassVar[tuple[str, ...]] = ("whole",)


@dataclass(frozen=True)
class Sums(Reduction):
    slots: ClassVar[tuple[str, ...]] = ("sums",)
    memory: ClassVar[tuple[str, ...]] = ("number",)


RULES = chain(Piecewise(), Whole(), None, Sums())


def test_state_has_the_shape_of_the_own_piece_except_where_a_rule_needs_whole_parameters():
    assert RULES.slots == ("piece", "whole", "sums", "number")
    assert RULES.shapes((4, 2)) == {"piece": (4, 2), "whole": (4, 2), "sums": (4, 2), "number": ()}
    assert RULES.shapes((4, 2), (1, 2)) == {"piece": (1, 2), "whole": (4, 2), "sums": (1, 2), "number": ()}
    assert RULES.in_pieces() == {"piece", "sums"}


def test_one_rule_that_reads_the_parameters_is_enough():
    assert not RULES.reads_theta
    assert chain(Piecewise(), decay(0.1)).reads_theta
    assert not chain(Piecewise(), decay(0.0)).reads_theta


def test_two_rules_that_keep_state_under_one_name_are_refused():
    with pytest.raises(ValueError, match="the same state name: piece, piece"):
        chain(Piecewise(), Piecewise())


def test_no_rule_is_equal_to_one_with_other_numbers():
    """A dataclass with eq=False inherits its base's equality; one that sees no fields made steps take stale numbers."""
    assert Scale(2.0) != Scale(3.0)
    for base in (Transform, Reduction, Rescale, Quantity):
        assert "__eq__" not in vars(base)
