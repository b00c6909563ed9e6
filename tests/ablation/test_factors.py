"""What of a stack may be left out, and what every arm looks like."""

import pytest

from sooner.ablation import Study, design, read
from sooner.error import SoonerError


def named(text, **options):
    return [factor.name for factor in read(text, **options).factors]


def test_parts_the_rule_and_its_options_can_be_left_out():
    stack = read("muon(lr=0.02) + cautious + ema + clip_norm + wsd")
    assert [f.name for f in stack.factors] == ["muon", "cautious", "clip_norm", "warmup_stable_decay", "ema"]
    assert str(stack.recipe) == "clip_norm + muon(lr=0.02, cautious=True) + warmup_stable_decay + ema"
    assert str(stack.arm([1, -1, -1, 1, -1])) == "muon(lr=0.02) + warmup_stable_decay"
    assert str(stack.arm([-1, 1, 1, -1, 1])) == "clip_norm + adamw(cautious=True) + ema"
    assert str(stack.all_out) == "adamw"


def test_an_option_in_brackets_is_the_same_as_its_word():
    assert named("muon(cautious=True) + ema") == named("muon + cautious + ema") == ["muon", "cautious", "ema"]
    assert str(read("muon(cautious=True) + ema").recipe) == str(read("muon + cautious + ema").recipe)


def test_ranges_stay_where_an_option_is_a_word():
    stack = read("muon(lr=log(0.01, 0.1)) + cautious + ema")
    assert str(stack.recipe) == "muon(cautious=True, lr=log(0.01, 0.1)) + ema"


def test_the_plain_rule_is_no_part_to_leave_out():
    assert named("adamw + ema + clip_norm") == ["clip_norm", "ema"]
    assert named("muon + ema", plain="sgd(lr=0.1)") == ["muon", "ema"]
    assert str(read("muon + ema", plain="sgd(lr=0.1)").all_out) == "sgd(lr=0.1)"


def test_several_rules_stay_together():
    stack = read("muon(on='weight') + adamw(on='rest') + ema + clip_norm")
    assert [f.name for f in stack.factors] == ["clip_norm", "ema"]
    assert stack.rule is None


def test_a_rule_that_stays_keeps_options_which_the_plain_one_lacks():
    """As the refusal says that names --keep."""
    stack = read("muon + cautious + ema", plain="torch.optim.SGD", keep="muon")
    assert [f.name for f in stack.factors] == ["cautious", "ema"]
    assert str(stack.all_out) == "muon"


def test_parts_can_stay_or_go_together():
    assert named("muon + ema + clip_norm", keep="ema") == ["muon", "clip_norm"]
    joined = read("sgd + top_k + ef21 + ema", plain="sgd", together=["top_k + ef21"])
    assert [f.name for f in joined.factors] == ["top_k + ef21", "ema"]
    assert str(joined.arm([-1, 1])) == "sgd + ema"


def test_all_arms_race_against_the_stack_without_any_part():
    study = Study(read("muon + cautious + ema + clip_norm + wsd"), design(5))
    assert len(study.arms) == 16
    assert str(study.recipes[0]) == "adamw"
    assert len({str(r) for r in study.recipes}) == len(study.recipes) == 17
    assert str(study.kept([0, 4])) == "muon + ema"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("muon; adamw", {}, "not one stack"),
        ("muon + emu", {}, "did you mean 'ema'"),
        ("muon + ema", {"keep": "emu"}, "--keep 'emu' .did you mean 'ema'"),
        ("muon + ema", {"together": ["ema + muom"]}, "--together 'muom'"),
        ("muon + ema", {"plain": "ema"}, "must be one update rule"),
        ("muon + ema", {"plain": "adamv"}, "did you mean 'adamw'"),
        ("muon + cautious + ema", {"plain": "torch.optim.SGD"}, "cautious is an option of muon that"),
        ("muon + cautious + ema", {"together": ["cautious + ema"]}, "option of the rule"),
    ],
)
def test_what_can_not_be_ablated_gets_one_sentence(text, options, said):
    with pytest.raises(SoonerError, match=said):
        read(text, **options)
