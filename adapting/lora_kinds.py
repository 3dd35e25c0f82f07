"""What peft is asked for by each method, what that weighs, and which models cannot take it: LoRA, DoRA, VeRA, OFT, (IA)3.

Guarantee: the sizes are those of the fitted model, to the weight. Price: none; nothing is put on the model here.
"""

from __future__ import annotations

from typing import Any

from .quantization import is_quantized, refuse_changing_base
from .targets import Place
from .whole_modules import whole_modules, whole_size
from .wish import Size, Wish

# leaf names of the layers that take what an MLP made; (IA)3 scales their inputs
_DOWN_LEAVES = {"down_proj", "w2", "fc2", "fc_out", "dense_4h_to_h", "c_proj", "output_linear"}
FLOAT_BYTES = 4  # adapters are trained and saved in float32, whatever the base is in


def _common(wish: Wish) -> dict[str, Any]:
    places = wish.targets.linear
    transposed = bool(places) and all(place.transposed for place in places)
    common: dict[str, Any] = {"target_modules": list(wish.targets.modules), "task_type": "CAUSAL_LM"}
    return {**common, "fan_in_fan_out": True} if transposed else common


# --- configurations ------------------------------------------------------------------------------------------------------------


def lora_config(model: Any, wish: Wish) -> Any:
    """peft's configuration of a LoRA or DoRA."""
    from peft import LoraConfig

    wanted: dict[str, Any] = {
        **_common(wish),
        "r": wish.rank,
        "lora_alpha": wish.rslora_alpha if wish.rslora else wish.alpha,
        "lora_dropout": 0.0 if wish.targets.fused else wish.dropout,
        "bias": wish.bias,
        "use_rslora": wish.rslora,
        "use_dora": wish.method == "dora",
    }
    if wish.targets.parameters:
        wanted["target_parameters"] = list(wish.targets.parameters)
    if modules := whole_modules(model, wish):
        wanted["modules_to_save"] = list(modules.names)
    return LoraConfig(**wanted)


def vera_config(model: Any, wish: Wish) -> Any:
    """peft's configuration of a VeRA; its shared random matrices are saved, so that no other machine has to draw the same."""
    from peft import VeraConfig

    settings: dict[str, Any] = {"r": wish.vera_rank, "projection_prng_key": wish.seed, "save_projection": True}
    return VeraConfig(**_common(wish), **settings, vera_dropout=wish.dropout)


def oft_config(model: Any, wish: Wish) -> Any:
    """peft's configuration of an OFT."""
    from peft import OFTConfig

    return OFTConfig(**_common(wish), oft_block_size=wish.oft_block_size)


def ia3_config(model: Any, wish: Wish) -> Any:
    """peft's configuration of an (IA)3: what the MLP makes is scaled before its last layer, everything else after its layer."""
    from peft import IA3Config

    return IA3Config(**_common(wish), feedforward_modules=_feedforward_names(wish))


def _feedforward_names(wish: Wish) -> list[str]:
    return [name for name in wish.targets.modules if name.rsplit(".", 1)[-1] in _DOWN_LEAVES]


# --- sizes ---------------------------------------------------------------------------------------------------------------------


def lora_size(model: Any, wish: Wish) -> Size:
    """Weights of a LoRA: rank x (inputs + outputs) of each place; DoRA adds one magnitude for each output."""
    places = wish.targets.places
    count = sum(max(1, place.experts) * wish.rank * (place.inputs + place.outputs) for place in places)
    if wish.method == "dora":
        count += sum(place.outputs for place in places)
    num_bytes = FLOAT_BYTES * count * (2 if changes_base(wish) else 1)  # what the base lost is saved with it
    notes = []
    if changes_base(wish):
        notes.append(
            f"Initialisation {wish.initialisation}: the saved adapter is a plain LoRA of rank {2 * wish.rank}, which works on the "
            f"model as it was loaded."
        )
    if wish.targets.fused and wish.dropout:
        notes.append("LoRA Dropout: there is none for this adapter, since fused expert weights cannot take it.")
    biases = _biases(model, wish)
    count += sum(bias.numel() for bias in biases)
    num_bytes += sum(bias.numel() * bias.element_size() for bias in biases)
    whole = whole_size(model, wish)
    return Size(count + whole.num_trained, num_bytes + whole.num_bytes, (*notes, *whole.notes))


def changes_base(wish: Wish) -> bool:
    """Whether an initialisation takes something out of the base weights for the time of the run."""
    return wish.initialisation in ("pissa", "pissa fast", "olora")


def _biases(model: Any, wish: Wish) -> list[Any]:
    """The base's biases that are trained."""
    if wish.bias == "all":
        return [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    if wish.bias == "lora_only":
        return [model.get_submodule(place.path).bias for place in wish.targets.linear if place.has_bias]
    return []


def vera_size(model: Any, wish: Wish) -> Size:
    """One value for each output and for each rank of every place; the file also holds the two shared matrices."""
    places, rank = wish.targets.linear, wish.vera_rank
    count = sum(rank + place.outputs for place in places)
    shared = rank * (max(place.inputs for place in places) + max(place.outputs for place in places))
    return Size(count, FLOAT_BYTES * (count + shared))


def oft_size(model: Any, wish: Wish) -> Size:
    """Half a square, without its diagonal, for each block of inputs."""
    block = wish.oft_block_size
    count = sum(place.inputs // block * (block * (block - 1) // 2) for place in wish.targets.linear)
    return Size(count, FLOAT_BYTES * count)


def ia3_size(model: Any, wish: Wish) -> Size:
    """One value for each output, or for each input of an MLP's last layer."""
    names = tuple(_feedforward_names(wish))
    places = wish.targets.linear
    count = sum(place.inputs if place.path.endswith(names) else place.outputs for place in places)
    return Size(count, FLOAT_BYTES * count)


# --- what cannot be ------------------------------------------------------------------------------------------------------------


def check_lora(model: Any, wish: Wish) -> None:
    """Refuse ranks that nothing can use, and what a kind of base or of weight cannot take.

    Raises:
        ValueError: with reason and remedy.
    """
    small = min(wish.targets.places, key=_largest_rank)
    if wish.rank > _largest_rank(small):
        others = "" if len(wish.targets.places) == 1 else f", or leave {small.leaf} out under Exclude modules"
        raise ValueError(
            f"LoRA Rank: {small.leaf} has {small.inputs} x {small.outputs} weights, so a rank above {_largest_rank(small)} adds nothing. "
            f"Got: {wish.rank}. Choose {_largest_rank(small)} or less{others}."
        )
    if wish.method == "dora":
        check_linear(model, wish)
        on_cpu = next(model.parameters()).device.type == "cpu"
        if on_cpu and is_quantized(model).startswith("8-bit"):  # peft loses the scales of the weights it has looked at
            raise ValueError("Method: peft cannot put dora on an 8-bit base on a CPU. Choose lora, or load the model in 4 bits.")
    _check_initialisation(model, wish)
    if (wish.train_head or wish.train_embeddings) and not whole_modules(model, wish):
        raise ValueError("Train head: the model names no output head or embeddings that could be trained. Switch it off.")


def _largest_rank(place: Place) -> int:
    return min(place.inputs, place.outputs)


def _check_initialisation(model: Any, wish: Wish) -> None:
    label = f"Initialisation {wish.initialisation}"
    if wish.initialisation in ("default", "gaussian"):
        return
    if wish.targets.fused:
        names = ", ".join(wish.targets.parameters)
        raise ValueError(
            f"{label}: it cannot go on the fused expert weights {names}. Choose default, or write these under Exclude modules."
        )
    if changes_base(wish):
        refuse_changing_base(model, label)
    if wish.initialisation == "olora" and any(place.transposed for place in wish.targets.places):
        raise ValueError(f"{label}: it cannot go on the transposed weights of this model. Choose pissa or default.")
    if wish.initialisation == "loftq" and not is_quantized(model).startswith("4-bit"):
        raise ValueError(
            f"{label}: it makes good what a 4-bit base has lost, and this base is not in 4 bits. Choose default or pissa, or load the "
            f"model in 4 bits."
        )


def check_linear(model: Any, wish: Wish) -> None:
    """Refuse fused expert weights, which only LoRA can go on.

    Raises:
        ValueError: with the names to leave out.
    """
    if wish.targets.fused:
        raise ValueError(
            f"Method: {wish.method} cannot go on the fused expert weights {', '.join(wish.targets.parameters)}. "
            f"Choose lora, or write these under Exclude modules."
        )


def check_oft(model: Any, wish: Wish) -> None:
    """Refuse blocks that do not divide the inputs, and transposed weights.

    Raises:
        ValueError: with reason and remedy.
    """
    check_linear(model, wish)
    block = wish.oft_block_size
    for place in wish.targets.linear:
        if place.transposed:
            raise ValueError(f"Method: oft cannot go on the transposed weights of {place.leaf}. Choose lora or vera.")
        if place.inputs % block:
            fitting = max(size for size in range(2, block + 1) if place.inputs % size == 0 or size == 2)
            raise ValueError(
                f"OFT block size: {place.leaf} has {place.inputs} inputs, which are no whole number of such blocks. Got: {block}. "
                f"Choose for example {fitting}, or leave {place.leaf} out under Exclude modules."
            )
