"""What the parameters of a model are: by module types, by names, by shapes; and weight decay by kind."""

import copy

import pytest
import torch
from torch import nn

from sooner.error import SoonerError
from sooner.kinds import bare_name, role_by_shape, roles, roles_by_name
from sooner.recipe import Recipe
from sooner.update import SGD, AdamP, AdamW, Muon, NormalizedGD


class VisionTransformer(nn.Module):
    """Everything that is no hidden matrix, with the output layer defined first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 5)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 16))
        self.registers = nn.Parameter(torch.zeros(4, 16))
        self.patches = nn.Conv2d(3, 16, 4)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16)
        self.gamma = nn.Parameter(torch.ones(1, 16))
        self.norm = nn.LayerNorm((2, 16))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.fc1 = nn.Linear(16, 16)
        self.fc2 = nn.Linear(16, 16)


class Conv1D(nn.Module):
    """Hugging Face's linear layer, stored [in, out]."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))


class Experts(nn.Module):
    def __init__(self, stored_in_out=False):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(4, 12, 8) if not stored_in_out else torch.randn(4, 8, 12))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(4, 12))
        self.router = nn.Linear(8, 4)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = Conv1D(24, 8), Conv1D(8, 8)
        self.heads = nn.ModuleList([nn.Linear(8, 2), nn.Linear(8, 2)])  # of attention, no output layers


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attn, self.experts = nn.LayerNorm(8), Attention(), Experts()


class Language(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.wte = nn.Embedding(50, 8)
        self.h = nn.ModuleList([Block(), Block()])
        self.lm_head = nn.Linear(8, 50, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight


class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        self.normalised = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
        self.bilinear = nn.Bilinear(3, 4, 5)
        self.up = nn.ConvTranspose1d(6, 2, 3)
        self.frames = nn.Conv1d(2, 6, 3)
        self.classifier = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
        self.last = nn.Linear(3, 3)  # defined last, and yet not the output layer


def kinds(model):
    return {role.name: role.kind for role in roles(model).values()}


def chosen(model, kind="matrix"):
    return [name for name, found in kinds(model).items() if found == kind]


def test_a_vision_transformer_has_few_hidden_matrices():
    found = kinds(VisionTransformer())
    assert [name for name, kind in found.items() if kind == "matrix"] == ["patches.weight", "fc1.weight", "fc2.weight"]
    assert found["head.weight"] == "head"
    assert {found[name] for name in ("cls_token", "pos_embed", "registers")} == {"token"}
    assert {found[name] for name in ("gamma", "norm.weight")} == {"gain"}
    assert {found[name] for name in ("norm.bias", "fc1.bias", "head.bias", "depthwise.bias")} == {"bias"}
    assert (found["depthwise.weight"], found["logit_scale"]) == ("depthwise", "scalar")


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_models_experts_are_stacks_and_conv1d_is_stored_the_other_way(tied):
    model = Language(tied)
    found = {role.name: role for role in roles(model).values()}
    assert found["wte.weight"].kind == "embedding"
    assert ("lm_head.weight" in found) is not tied
    assert tied or found["lm_head.weight"].kind == "head"
    assert found["h.1.attn.c_attn.weight"].transposed
    assert found["h.1.experts.gate_up_proj"].stacked
    assert not found["h.1.experts.gate_up_proj"].transposed
    assert found["h.1.experts.gate_up_proj_bias"].kind == "bias"
    assert found["h.1.attn.heads.1.weight"].kind == "matrix"
    turned = {role.name: role for role in roles(Experts(stored_in_out=True)).values()}
    assert turned["gate_up_proj"].transposed  # its bias says so


def test_known_modules_of_torch():
    found = {role.name: role for role in roles(Other()).values()}
    matrices = {name for name, role in found.items() if role.kind == "matrix"}
    assert matrices == {
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "normalised.parametrizations.weight.original1",
        "bilinear.weight",
        "up.weight",
        "frames.weight",
        "classifier.0.weight",
        "last.weight",
    }
    assert not any(role.stacked for role in found.values())
    assert [name for name, role in found.items() if role.transposed] == ["up.weight"]
    assert found["normalised.parametrizations.weight.original0"].kind == "gain"
    assert found["classifier.2.weight"].kind == "head"
    assert {found[f"attention.bias_{k}"].kind for k in "kv"} == {"bias"}


def test_the_output_layer_is_found_without_a_name():
    assert chosen(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "head") == ["1.weight"]
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4)) for _ in range(2)))
    assert chosen(blocks, "head") == []  # an encoder: its last layer is like the others
    first = nn.Module()  # the output layer first, and nobody takes in its width
    first.zebra, first.one, first.two = nn.Linear(8, 5), nn.Linear(8, 8), nn.Linear(8, 8)
    assert chosen(first, "head") == ["zebra.weight"]

    class Said(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.odd, self.tail = nn.Linear(4, 4), nn.Linear(4, 9), nn.Linear(4, 4)

        def get_output_embeddings(self):
            return self.odd

    assert chosen(Said(), "head") == ["odd.weight"]


def test_lora_matrices_are_matrices_and_heads_stay_heads_under_peft():
    model, adapted, tops = nn.Module(), nn.Module(), nn.Module()
    adapted.base_layer = Conv1D(6, 4)
    adapted.lora_A = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
    adapted.lora_B = nn.ModuleDict({"default": nn.Linear(2, 6, bias=False)})
    adapted.lora_embedding_A = nn.ParameterDict({"default": torch.zeros(2, 9)})
    tops.original_module, tops.modules_to_save = nn.Linear(6, 3), nn.ModuleDict({"default": nn.Linear(6, 3)})
    model.base_model = nn.Module()
    model.base_model.model = nn.Module()
    model.base_model.model.c_attn, model.base_model.model.score = adapted, tops
    found = roles(model)
    assert [(r.name, r.kind) for p, r in found.items() if p.ndim > 1] == [
        ("c_attn.weight", "matrix"),
        ("c_attn.lora_A.default.weight", "matrix"),
        ("c_attn.lora_B.default.weight", "matrix"),
        ("c_attn.lora_embedding_A.default", "embedding"),
        ("score.weight", "head"),
        ("score.weight", "head"),
    ]


def compiled(model):
    """As `torch.compile` wraps a model, without its compiler, which takes long to import."""
    outer = nn.Module()
    outer._orig_mod = model
    return outer


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled, nn.Sequential])
@pytest.mark.parametrize("make", [VisionTransformer, Language, Other])
def test_wrapped_models_are_what_they_wrap(make, wrap):
    model = make()
    plain, wrapped = roles(model), roles(wrap(model))
    assert [r.kind for r in plain.values()] == [r.kind for r in wrapped.values()]
    if wrap is not nn.Sequential:
        assert plain == wrapped
    assert bare_name("module._orig_mod.fc.weight") == "fc.weight"
    assert bare_name("_fsdp_wrapped_module.a._checkpoint_wrapped_module.b") == "a.b"


@pytest.mark.parametrize("make", [VisionTransformer, Language, lambda: Language(tied=False), Other])
def test_names_say_the_same_where_they_can(make):
    model = make()
    by_names = roles_by_name((f"module.{name}", p) for name, p in model.named_parameters())
    for p, role in roles(model).items():
        other = by_names[p]
        assert (role.name, role.kind, role.stacked) == (other.name, other.kind, other.stacked)
        square = p.ndim == 2 and p.shape[0] == p.shape[1]
        assert square or role.name == "up.weight" or role.transposed == other.transposed


def test_shapes_say_little():
    def said(*shape):
        role = role_by_shape(torch.empty(shape))
        return role.kind, role.stacked

    assert said(4, 16, 16) == said(2, 3, 32, 64) == ("matrix", True)
    assert said(64, 32, 3) == said(64, 32, 3, 3) == said(8, 3, 32, 32) == said(1, 5) == ("matrix", False)
    assert said(1, 17, 8) == ("token", False)
    assert said(16, 1, 3) == ("depthwise", False)
    assert (said(4)[0], said()[0]) == ("gain", "scalar")


def test_a_lazy_module_is_refused_in_one_sentence():
    with pytest.raises(SoonerError, match=r"parameter 0.weight has no shape yet; run the model once"):
        Muon(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)))


# weight decay by kind


@pytest.mark.parametrize("method", [AdamW, SGD, AdamP, Muon])
def test_only_what_multiplies_decays(method):
    model = VisionTransformer().double()
    whole = copy.deepcopy(model)
    by_kind = method(model, lr=0.1, weight_decay=0.5, decay="matrices")
    never = method(whole, lr=0.1, weight_decay=0.0)
    always = method(copy.deepcopy(model), lr=0.1, weight_decay=0.5)
    decayed = kinds(model)
    for optimizer in (by_kind, never, always):
        (group,) = optimizer.param_groups
        for i, p in enumerate(group["params"]):
            with torch.no_grad():
                p.fill_(1.0)
            p.grad = torch.linspace(1, 2, p.numel(), dtype=p.dtype).view(p.shape) + i
        optimizer.step()
    triples = zip(decayed, *(o.param_groups[0]["params"] for o in (by_kind, never, always)), strict=True)
    for name, ours, without, within in triples:
        multiplies = decayed[name] in ("matrix", "depthwise", "embedding", "head")
        assert torch.equal(ours, within if multiplies else without), name
        assert not torch.equal(within, without), name


def test_decay_by_kind_is_a_hyper_parameter_of_the_group():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    optimizer = AdamW(model, decay="matrices", weight_decay=0.1)
    assert len(optimizer.param_groups) == 1
    assert [own["weight_decay"] for _, own in optimizer.shares(optimizer.param_groups[0])] == [0.1, 0.0]
    plain = AdamW(copy.deepcopy(model), weight_decay=0.1)
    plain.load_state_dict(optimizer.state_dict())
    assert plain.param_groups[0]["decay"] == "matrices"
    groups = [{"params": list(model[0].parameters()), "decay": "matrices"}, {"params": list(model[1].parameters())}]
    mixed = AdamW(groups, model=model, weight_decay=0.1)
    assert [[own["weight_decay"] for _, own in mixed.shares(g)] for g in mixed.param_groups] == [[0.1, 0.0], [0.1]]
    named = AdamW(model.named_parameters(), decay="matrices", weight_decay=0.1)
    assert [len(some) for some, _ in named.shares(named.param_groups[0])] == [2, 4]


def test_decay_by_kind_in_recipes_and_bad_values():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    training = Recipe("adamw(decay='matrices', on='!2.*') + sgd(on='rest')").build(model, steps=3)
    optimizer = training.optimizers[0]
    assert [len(some) for some, _ in optimizer.shares(optimizer.param_groups[0])] == [3, 2]
    with pytest.raises(SoonerError, match=r"adamw: decay='matrixes' \(did you mean 'matrices'\?\) is not one of"):
        AdamW(model, decay="matrixes")
    with pytest.raises(SoonerError, match="normalized_gd: decay='matrices' says what decays, and normalized_gd has no"):
        NormalizedGD(model, decay="matrices")
    with pytest.raises(SoonerError, match="has no hyper-parameter 'model'"):
        Recipe("adamw(model=1)")


def test_explain_lists_every_parameter():
    model = VisionTransformer()
    lines = AdamW(model, lr=0.25, decay="matrices", weight_decay=0.5).explain().splitlines()
    assert lines[0].split() == ["parameter", "shape", "kind", "rule", "lr", "weight", "decay", "why"]
    assert len(lines) == 1 + len(list(model.parameters()))
    fc1 = next(line for line in lines if line.startswith("fc1.weight"))
    assert fc1.split(maxsplit=8) == [
        "fc1.weight",
        "16",
        "x",
        "16",
        "matrix",
        "adamw",
        "0.25",
        "0.5",
        "weight of a Linear",
    ]
    norm = next(line for line in lines if line.startswith("norm.weight"))
    assert norm.split()[4:8] == ["gain", "adamw", "0.25", "0"]
