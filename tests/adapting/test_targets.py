"""Which weights get an adapter: names of real families, ranges, exclusions, and what peft makes of them."""

from types import SimpleNamespace
from typing import Any

import families
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_pro.adapting.targets import (
    TARGET_PRESETS,
    Place,
    choose_targets,
    find_places,
    linear_module_names,
    shortest_names,
)

ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "Llama": {"q-v": ("q_proj", "v_proj"), "q-k-v-o": ("q_proj", "k_proj", "v_proj", "o_proj")},
    "Phi": {"q-k-v-o": ("q_proj", "k_proj", "v_proj", "dense"), "k-v-down": ("k_proj", "v_proj", "fc2")},
    "Phi3": {"q-v": ("qkv_proj",), "k-v-down": ("qkv_proj", "down_proj")},
    "GPTNeoX": {"q-k-v-o": ("query_key_value", "dense"), "k-v-down": ("query_key_value", "dense_4h_to_h")},
    "GPT2": {"q-v": ("c_attn",), "q-k-v-o": ("c_attn", "attn.c_proj"), "k-v-down": ("c_attn", "mlp.c_proj")},
    "GPTJ": {"k-v-down": ("k_proj", "v_proj", "fc_out")},
    "Falcon": {"q-k-v-o": ("query_key_value", "dense")},
    "Bloom": {"k-v-down": ("query_key_value", "dense_4h_to_h")},
    "OPT": {"q-k-v-o": ("k_proj", "v_proj", "q_proj", "out_proj")},
    "Starcoder2": {"k-v-down": ("k_proj", "v_proj", "c_proj")},
    "Gemma2": {"q-k-v": ("q_proj", "k_proj", "v_proj")},
}


def reached(model: Any, modules: tuple[str, ...]) -> set[str]:
    """What peft puts an adapter on by these names."""
    return {path for path, _ in model.named_modules() if any(path == name or path.endswith(f".{name}") for name in modules)}


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name in ROLES for preset in ROLES[name]])
def test_ready_choices_of_families(name: str, preset: str) -> None:
    assert choose_targets(families.empty(name), [preset]).modules == ROLES[name][preset]


@pytest.mark.parametrize("name", families.FAMILIES)
@pytest.mark.parametrize("preset", TARGET_PRESETS)
def test_names_reach_exactly_what_was_chosen(name: str, preset: str) -> None:
    model = families.empty(name)
    targets = choose_targets(model, [preset])
    assert targets.places
    assert reached(model, targets.modules) == {place.path for place in targets.linear}
    parameters = {path for path, _ in model.named_parameters()}
    matched = {path for path in parameters if any(path.endswith(f".{entry}") for entry in targets.parameters)}
    assert matched == {place.path for place in targets.fused}
    assert not any(place.path.endswith(("lm_head", "embed_out")) for place in targets.places)


@pytest.mark.parametrize("name", families.MIXTURES)
def test_fused_experts_are_places(name: str) -> None:
    model = families.empty(name)
    targets = choose_targets(model, ["all-linear"])
    assert targets.parameters == ("experts.gate_up_proj", "experts.down_proj")
    assert [place.experts for place in targets.fused] == [3] * 4
    assert choose_targets(model, ["k-v-down"]).names == ["k_proj", "v_proj", "experts.down_proj"]
    assert choose_targets(model, ["all-linear"], exclude=["experts.gate_up_proj"]).parameters == ("experts.down_proj",)
    assert not any("gate." in place.path or place.leaf == "gate" for place in targets.places)  # the router is left alone


def test_places_know_their_shapes() -> None:
    llama = {place.path: place for place in find_places(families.empty("Llama"))}
    assert llama["model.layers.1.mlp.down_proj"] == Place("model.layers.1.mlp.down_proj", 32, 16, layer=1)
    gpt2 = {place.path: place for place in find_places(families.empty("GPT2"))}
    fused = gpt2["transformer.h.0.attn.c_attn"]
    assert (fused.inputs, fused.outputs, fused.has_bias, fused.transposed, fused.layer) == (16, 48, True, True, 0)


@pytest.mark.parametrize("name", ["Llama", "GPT2", "GPTNeoX", "OPT", "Falcon"])
def test_a_range_of_layers(name: str) -> None:
    model = families.empty(name, **{"GPT2": {"n_layer": 5}}.get(name, {"num_hidden_layers": 5}))
    targets = choose_targets(model, ["all-linear"], first_layer=2, last_layer=4)
    assert {place.layer for place in targets.places} == {1, 2, 3}
    assert reached(model, targets.modules) == {place.path for place in targets.places}
    every = choose_targets(model, ["all-linear"]).places
    assert len(targets.places) == len(every) * 3 // 5
    assert choose_targets(model, ["all-linear"], first_layer=5).places == tuple(place for place in every if place.layer == 4)


def test_exclusions_and_names() -> None:
    model = families.empty("Llama")
    targets = choose_targets(model, ["all-linear"], exclude=["mlp.up_proj", "q_proj", "model.layers.0.self_attn.v_proj"])
    assert "up_proj" not in targets.names
    assert "q_proj" not in targets.names
    assert "model.layers.1.self_attn.v_proj" in targets.names  # only one of two, so by its whole path
    assert choose_targets(model, ["model.layers.1.mlp.gate_proj"]).modules == ("model.layers.1.mlp.gate_proj",)
    assert choose_targets(model, ["q-v", "q_proj", "k_proj"]).modules == ("q_proj", "k_proj", "v_proj")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"wanted": ["w_q"]},
            "Target modules: the model has no linear module called 'w_q'. It has: q_proj, k_proj, .* Choose from these",
        ),
        ({"wanted": ["lm_head"]}, "no linear module called 'lm_head'"),
        ({"exclude": ["wq"]}, "Exclude modules: the model has nothing called 'wq'. It has: q_proj"),
        ({"wanted": ["q_proj"], "exclude": ["q_proj"]}, "Target modules: nothing is left to train. Exclude less"),
        ({"first_layer": 3}, "Layers from: the model has 2 layers. Got: 3. Choose 1 to 2"),
        ({"last_layer": 9}, "Layers to: the model has 2 layers. Got: 9. Choose 1 to 2"),
        ({"first_layer": 2, "last_layer": 1}, r"Layers from: it is behind Layers to \(1\). Got: 2. Choose 1 or less"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_targets(families.empty("Llama"), arguments.pop("wanted", ["all-linear"]), **arguments)


def test_a_family_without_attention() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    assert linear_module_names(model) == {"0": 1, "1": 1}
    with pytest.raises(ValueError, match="Target modules: 'q-v' needs a q projection, and this model has none that is known"):
        choose_targets(model, ["q-v"])
    with pytest.raises(ValueError, match="Layers from: the model has 0 layers. Got: 2"):
        choose_targets(model, ["all-linear"], first_layer=2)


def test_layers_of_bitsandbytes_are_linear() -> None:
    """They are subclasses whose weight is packed; their sizes stand in their attributes."""

    class Linear4bit(torch.nn.Linear):
        pass

    layer = Linear4bit(6, 4, bias=False)
    layer.weight = torch.nn.Parameter(torch.zeros(12, 1, dtype=torch.uint8), requires_grad=False)
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.ModuleDict({"q_proj": layer})])})
    model.config = SimpleNamespace(num_hidden_layers=1)
    assert find_places(model) == [Place("layers.0.q_proj", 6, 4, layer=0)]


# --- names alone ---------------------------------------------------------------------------------------------------------------

paths = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "0", "1"]), min_size=1, max_size=4).map(".".join),
    min_size=1,
    max_size=12,
    unique=True,
)


@given(paths, st.data())
def test_short_names_match_the_chosen_and_nothing_else(everything: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(everything), unique=True))
    # a whole path that is the end of another cannot be told apart by peft's rule; real models have one root
    rooted = [f"root.{path}" for path in everything]
    names = shortest_names([f"root.{path}" for path in chosen], set(rooted))
    matched = {path for path in rooted if any(path == name or path.endswith(f".{name}") for name in names)}
    assert matched == {f"root.{path}" for path in chosen}
    assert len(names) == len(set(names)) <= len(chosen)
