"""Names without the parts of wrappers, and the states that are matched by them."""

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from sooner.error import SoonerError
from sooner.foundation.model_names import (
    matched,
    modules_by_name,
    plain_name,
    plain_names,
    prefix_note,
    renamed,
    unwrapped,
    wrapper_prefix,
)
from sooner.loop.checkpoint import load_weights


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("weight", "weight"),
        ("module.weight", "weight"),
        ("module.module.0.weight", "0.weight"),
        ("module._orig_mod.layers.0.weight", "layers.0.weight"),
        ("_orig_mod.module.layers.0._checkpoint_wrapped_module.weight", "layers.0.weight"),
        ("_fsdp_wrapped_module.layers.0._fsdp_wrapped_module._orig_mod.weight", "layers.0.weight"),
        ("_forward_module.module.encoder.module.bias", "encoder.bias"),
        ("module", "module"),  # a parameter of that name
        ("a.module", "a.module"),
        ("my_module.weight", "my_module.weight"),
    ],
)
def test_a_plain_name_has_no_part_of_a_wrapper(name, plain):
    assert plain_name(name) == plain


def test_names_that_would_become_the_same_keep_theirs():
    names = ["module.weight", "weight", "head._orig_mod.weight"]
    plain = {"module.weight": "module.weight", "weight": "weight", "head._orig_mod.weight": "head.weight"}
    assert plain_names(names) == plain
    wrapped = plain_names([f"module._orig_mod.{name}" for name in names])  # the whole model in DDP, compiled
    assert list(wrapped.values()) == list(plain.values())
    assert plain_names([]) == {}


def test_what_wraps_the_whole_model_is_the_prefix_that_all_names_have():
    assert wrapper_prefix(["module._orig_mod.a.weight", "module._orig_mod.b"]) == "module._orig_mod."
    assert wrapper_prefix(["module.a", "b"]) == ""
    assert wrapper_prefix(["module"]) == ""
    assert wrapper_prefix([]) == ""


def test_names_match_by_what_they_mean():
    ours = ["0.weight", "1.weight"]
    assert matched([f"module.{name}" for name in ours], ours) == {name: f"module.{name}" for name in ours}
    assert matched(ours, ["0._orig_mod.weight", "1.weight"]) == {
        "0._orig_mod.weight": "0.weight",
        "1.weight": "1.weight",
    }
    assert matched(["weight"], ["module.weight", "weight"]) == {"weight": "weight"}
    both = ["module.weight", "weight"]
    assert matched([f"module.{name}" for name in both], both) == {name: f"module.{name}" for name in both}
    assert matched(["2.weight"], ours) == {}


def test_a_note_says_how_the_names_of_a_state_begin():
    assert "'module._orig_mod.'" in prefix_note(["module._orig_mod.a", "module._orig_mod.b"], ["a"])
    assert "'net.' before ours; take it off" in prefix_note(["net.a", "net.b"], ["a", "b"])
    assert prefix_note(["a"], ["b"]) == ""
    assert prefix_note([], []) == ""


def wrapped_models():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    yield nn.DataParallel(net)
    yield torch.compile(net, backend="eager")
    yield nn.DataParallel(torch.compile(nn.DataParallel(net), backend="eager"))
    yield checkpoint_wrapper(net)
    yield nn.Sequential(torch.compile(net[0], backend="eager"), net[1], checkpoint_wrapper(net[2]))


def test_a_wrapped_model_is_seen_as_the_plain_one():
    for model in wrapped_models():
        plain = unwrapped(model)
        assert type(plain) is nn.Sequential
        found = [f"{prefix}{key}" for prefix, _, module in modules_by_name(model) for key in module._parameters]
        assert found == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
        whole = [f"{prefix}{key}" for _, prefix, module in modules_by_name(model) for key in module._parameters]
        assert [plain_name(name) for name in whole] == found


def test_a_module_of_the_users_may_be_called_module_and_hold_the_one_that_holds_it():
    net = nn.Module()
    net.module = nn.Linear(1, 1)
    net.module.owner = net
    assert [prefix for prefix, _, _ in modules_by_name(net)] == ["", "module."]
    assert unwrapped(net) is net


def test_weights_load_whatever_wrapped_the_model_that_saved_them(tmp_path):
    torch.manual_seed(1)
    for model in wrapped_models():
        for other in wrapped_models():
            load_weights(tmp_path, other, model.state_dict())
            pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    state = nn.Sequential(nn.Linear(2, 3)).state_dict()
    assert renamed(state, ["0.weight", "0.bias"]) == dict(state)
    with pytest.raises(SoonerError, match=r"(?s)holds another model .*prefix 'module\.' of a wrapper"):
        load_weights(tmp_path, nn.Linear(2, 3), nn.DataParallel(nn.Linear(2, 2)).state_dict())
