"""Which weights of a model get an adapter: from the words on the form to the exact places of the model that is loaded.

What it does: lists what a model has (linear layers, and the fused expert weights of mixtures), resolves ready choices and names, takes
a range of layers and exclusions, and writes the result in the fewest names that peft understands as exactly these places.

Guarantee: what is chosen is a set of places of the real model, so that a name can never reach a router, the head or another layer by
accident; a word that matches nothing is an error. Price: one walk over the modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

# what a projection is called in the families of models; several names in one tuple belong together
_ROLE_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "q": (("q_proj",), ("q_a_proj", "q_b_proj"), ("query",), ("wq",), ("q_lin",), ("q",)),
    "k": (("k_proj",), ("kv_a_proj_with_mqa", "kv_b_proj"), ("key",), ("wk",), ("k_lin",), ("k",)),
    "v": (("v_proj",), ("kv_a_proj_with_mqa", "kv_b_proj"), ("value",), ("wv",), ("v_lin",), ("v",)),
    "o": (("o_proj",), ("out_proj",), ("dense",), ("wo",), ("out_lin",), ("c_proj",), ("o",)),
    "down": (("down_proj",), ("w2",), ("fc2",), ("fc_out",), ("dense_4h_to_h",), ("c_proj",), ("output_linear",)),
}
_FUSED_QKV = (("qkv_proj",), ("query_key_value",), ("c_attn",), ("Wqkv",), ("wqkv",), ("qkv",), ("in_proj",))
# leaf names that stand in attention and in the MLP of some families: only the right half is meant
_IN_ATTENTION = {"c_proj", "dense", "out_proj", "in_proj"}

# name on the form -> roles; None means everything but the head
TARGET_PRESETS: dict[str, tuple[str, ...] | None] = {
    "all-linear": None,
    "q-v": ("q", "v"),
    "q-k-v": ("q", "k", "v"),
    "q-k-v-o": ("q", "k", "v", "o"),
    "k-v-down": ("k", "v", "down"),
}


@dataclass(frozen=True)
class Place:
    """One weight that an adapter can go on.

    Attributes:
        path: of the module; of the parameter where experts are fused into one.
        inputs: size of what comes in (fused experts: second size of the parameter).
        outputs: size of what goes out (fused experts: third size).
        has_bias: whether the layer has a bias.
        experts: how many are fused in it; 0 for a linear layer.
        layer: number of the model's layer in which it is, from 0; None outside of them.
        transposed: the weight is stored (inputs, outputs).
    """

    path: str
    inputs: int
    outputs: int
    has_bias: bool = False
    experts: int = 0
    layer: int | None = None
    transposed: bool = False

    @property
    def leaf(self) -> str:
        """Last part of the path; the whole path where that is a number."""
        last = self.path.rsplit(".", 1)[-1]
        return self.path if last.isdigit() else last


@dataclass(frozen=True)
class Targets:
    """Places that were chosen, and how peft is told.

    Attributes:
        places: all of them, in the model's order.
        modules: names for peft's ``target_modules``: leaves, ends of paths or whole paths.
        parameters: the same for ``target_parameters`` (fused experts).
        notes: sentences for the user.
    """

    places: tuple[Place, ...]
    modules: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def names(self) -> list[str]:
        """For the plan and the run's identity."""
        return [*self.modules, *self.parameters]

    @property
    def linear(self) -> tuple[Place, ...]:
        """The places that are linear layers."""
        return tuple(place for place in self.places if not place.experts)

    @property
    def fused(self) -> tuple[Place, ...]:
        """The places that are fused experts."""
        return tuple(place for place in self.places if place.experts)


# --- what a model has ----------------------------------------------------------------------------------------------------------


def find_places(model: Any) -> list[Place]:
    """Every linear layer and every fused expert weight, in the model's order, without the output head.

    Layers of bitsandbytes count: they are linear layers with packed weights.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    stack = _layer_stack(model)
    places = []
    for path, module in model.named_modules():
        layer = _layer_number(path, stack)
        if isinstance(module, torch.nn.Linear):
            if module is not head:
                has_bias = module.bias is not None
                places.append(Place(path, int(module.in_features), int(module.out_features), has_bias, layer=layer))
        elif isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            places.append(Place(path, int(inputs), int(outputs), module.bias is not None, layer=layer, transposed=True))
        else:
            places += _fused_experts(path, module, layer)
    return places


def _fused_experts(path: str, module: Any, layer: int | None) -> Iterator[Place]:
    """Weights (experts, a, b) that a module of a mixture holds as one parameter."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() == 3 and "expert" in f"{type(module).__name__}.{path}".lower() and parameter.is_floating_point():
            experts, inputs, outputs = parameter.shape
            yield Place(f"{path}.{name}", int(inputs), int(outputs), experts=int(experts), layer=layer)


def _layer_stack(model: Any) -> str:
    """Path of the list of the model's layers, with a dot at its end; "" if there is none."""
    import torch

    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    wanted = getattr(config, "num_hidden_layers", None)
    lists = [(path, len(module)) for path, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)]
    found = [path for path, length in lists if length == wanted] or [
        path for path, length in sorted(lists, key=lambda entry: -entry[1])
    ]
    return f"{min(found, key=lambda path: path.count('.'))}." if found else ""


def _layer_number(path: str, stack: str) -> int | None:
    if not stack or not path.startswith(stack):
        return None
    number = path[len(stack) :].split(".", 1)[0]
    return int(number) if number.isdigit() else None


def linear_module_names(model: Any) -> dict[str, int]:
    """Leaf names of what an adapter can go on, with how many there are of each; without the output head.

    Returns:
        For example ``{"q_proj": 30, "k_proj": 30, ...}`` in the order of the model.
    """
    counts: dict[str, int] = {}
    for place in find_places(model):
        counts[place.leaf] = counts.get(place.leaf, 0) + 1
    return counts


# --- from words to places ------------------------------------------------------------------------------------------------------


def choose_targets(
    model: Any, wanted: Iterable[str], *, exclude: Iterable[str] = (), first_layer: int = 1, last_layer: int = 0
) -> Targets:
    """The places for an adapter.

    Args:
        model: the base model.
        wanted: entries of :data:`TARGET_PRESETS`, names or ends of names of what the model has.
        exclude: names or ends of names that are left out.
        first_layer: first layer of the model that gets an adapter, from 1.
        last_layer: last one; 0 = to the end.

    Raises:
        ValueError: a name that the model does not have, a range outside its layers, or nothing left.
    """
    found = find_places(model)
    chosen: set[str] = set()
    for word in wanted:
        chosen |= {place.path for place in _places_of(word, found)}
    excluded = set()
    for name in exclude:
        if not (matching := _named(name, found)):
            raise ValueError(f"Exclude modules: the model has nothing called {name!r}. It has: {_listed(found)}.")
        excluded |= {place.path for place in matching}
    kept = [place for place in found if place.path in chosen - excluded]
    kept = _in_range(kept, found, first_layer, last_layer)
    if not kept:
        raise ValueError("Target modules: nothing is left to train. Exclude less, or choose more modules or layers.")
    return _targets(model, kept)


def _places_of(word: str, places: list[Place]) -> list[Place]:
    if word in TARGET_PRESETS:
        roles = TARGET_PRESETS[word]
        if roles is None:
            return places
        return [place for role in roles for place in _role(word, role, places)]
    matching = _named(word, places)
    if not matching:
        raise ValueError(
            f"Target modules: the model has no linear module called {word!r}. "
            f"It has: {_listed(places)}. Choose from these or take all-linear."
        )
    return matching


def _role(preset: str, role: str, places: list[Place]) -> list[Place]:
    """The places of one role: of the first family of names that the model has."""
    in_attention = role != "down"
    for names in _ROLE_NAMES[role] + (_FUSED_QKV if role in "qkv" else ()):
        found = [place for place in places if place.leaf in names and _is_in_half(place, in_attention)]
        if found:
            return found
    raise ValueError(
        f"Target modules: {preset!r} needs a {role} projection, and this model has none that is known. "
        f"It has: {_listed(places)}. Choose names from these or take all-linear."
    )


def _is_in_half(place: Place, in_attention: bool) -> bool:
    """Whether a place whose name means two things is in attention, as wanted; a bare name could be either."""
    if place.leaf not in _IN_ATTENTION or "." not in place.path:
        return True
    return ("att" in place.path.rsplit(".", 1)[0].lower()) == in_attention


def _named(name: str, places: list[Place]) -> list[Place]:
    return [place for place in places if _matches(place.path, name)]


def _matches(path: str, name: str) -> bool:
    """peft's rule for names in a list."""
    return path == name or path.endswith(f".{name}")


def _listed(places: list[Place]) -> str:
    return ", ".join(dict.fromkeys(place.leaf for place in places)) or "none"


def _in_range(chosen: list[Place], found: list[Place], first: int, last: int) -> list[Place]:
    if first <= 1 and last <= 0:
        return chosen
    numbers = {place.layer for place in found if place.layer is not None}
    count = max(numbers) + 1 if numbers else 0
    if first > count or last > count:
        label, got = ("Layers from", first) if first > count else ("Layers to", last)
        raise ValueError(f"{label}: the model has {count} layers. Got: {got}. Choose 1 to {count}.")
    end = last or count
    if first > end:
        raise ValueError(f"Layers from: it is behind Layers to ({end}). Got: {first}. Choose {end} or less.")
    return [place for place in chosen if place.layer is not None and first - 1 <= place.layer <= end - 1]


# --- from places to names for peft ---------------------------------------------------------------------------------------------


def _targets(model: Any, places: list[Place]) -> Targets:
    modules = {path for path, _ in model.named_modules()}
    parameters = {path for path, _ in model.named_parameters()}
    linear = shortest_names([place.path for place in places if not place.experts], modules)
    fused = shortest_names([place.path for place in places if place.experts], parameters, at_least=2)
    return Targets(tuple(places), tuple(linear), tuple(fused))


def shortest_names(chosen: list[str], everything: set[str], at_least: int = 1) -> list[str]:
    """The fewest, shortest names that peft matches with these paths and with no others.

    Args:
        chosen: whole paths.
        everything: all paths that peft would look at.
        at_least: parts of a path that a name has.

    Returns:
        For example ``["q_proj", "v_proj"]``; whole paths where only some layers are chosen.
    """
    wanted = set(chosen)
    names: dict[str, bool] = {}
    for path in chosen:
        parts = path.split(".")
        ends = [".".join(parts[-length:]) for length in range(at_least, min(at_least + 2, len(parts)) + 1)]
        for end in (end for end in ends if not any(part.isdigit() for part in end.split("."))):
            if end not in names:
                names[end] = all(other in wanted for other in everything if _matches(other, end))
            if names[end]:
                break
        else:
            names[path] = True
    return [name for name, is_exact in names.items() if is_exact]
