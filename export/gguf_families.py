"""Model families as llama.cpp knows them: its name for each, and how it orders the rows of their weights.

The names of tensors come from the ``gguf`` package's own tables. What is written here is what those tables do not say:
llama.cpp rotates neighbouring pairs of a head's values in some families, where transformers rotates its two halves, and it
keeps fused query-key-value weights in another order; so the rows of these weights, and of the B of a LoRA on them, change
places.

Guarantee: a family stands here only if files of it were compared tensor by tensor with llama.cpp's converter and run in
llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs.store import read_json

if TYPE_CHECKING:
    import numpy as np

Config = Mapping[str, Any]
RowOrder = Callable[[str, int, Config], "np.ndarray | None"]
"""(last name of the module, number of rows, the model's configuration) -> for each row of llama.cpp's tensor, its row in ours."""


def _as_they_are(leaf: str, num_rows: int, config: Config) -> np.ndarray | None:
    return None


def interleaved(num_rows: int, num_heads: int) -> np.ndarray:
    """Rows of heads whose halves are rotated -> rows whose neighbours are.

    Of a head with 6 rows, 0 1 2 | 3 4 5 becomes 0 3 | 1 4 | 2 5.
    """
    import numpy as np

    return np.arange(num_rows).reshape(num_heads, 2, -1).swapaxes(1, 2).reshape(-1)


def _rotary_halves(leaf: str, num_rows: int, config: Config) -> np.ndarray | None:
    """Llama and its kin: query and key are reordered."""
    if leaf not in ("q_proj", "k_proj"):
        return None
    heads = int(config["num_attention_heads"])
    if leaf == "k_proj":
        heads = int(config.get("num_key_value_heads") or heads)
    return interleaved(num_rows, heads)


def _heads_first(leaf: str, num_rows: int, config: Config) -> np.ndarray | None:
    """GPT-NeoX: query, key and value of each head in turn -> all queries, all keys, all values."""
    import numpy as np

    if leaf != "query_key_value":
        return None
    heads = int(config["num_attention_heads"])
    return np.arange(num_rows).reshape(heads, 3, -1).swapaxes(0, 1).reshape(-1)


def _groups_first(leaf: str, num_rows: int, config: Config) -> np.ndarray | None:
    """Falcon: queries, key and value of each group of heads in turn -> all queries, all keys, all values."""
    import numpy as np

    if leaf != "query_key_value":
        return None
    heads = int(config["num_attention_heads"])
    groups = falcon_groups(config)
    rows = np.arange(num_rows).reshape(groups, heads // groups + 2, -1)
    return np.concatenate([rows[:, :-2].reshape(-1), rows[:, -2].reshape(-1), rows[:, -1].reshape(-1)])


def falcon_groups(config: Config) -> int:
    """How many heads of key and value a Falcon has."""
    if config.get("new_decoder_architecture"):
        return int(config.get("num_kv_heads") or config["num_attention_heads"])
    return 1 if config.get("multi_query", True) else int(config["num_attention_heads"])


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: of llama.cpp's architecture in the ``gguf`` package (a member of MODEL_ARCH).
        rows: how rows change places.
    """

    name: str
    rows: RowOrder = _as_they_are


# the architecture in a model's config.json -> family
FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family("LLAMA", _rotary_halves),
    "MistralForCausalLM": Family("LLAMA", _rotary_halves),
    "MixtralForCausalLM": Family("LLAMA", _rotary_halves),
    "SmolLM3ForCausalLM": Family("SMOLLM3", _rotary_halves),
    "GraniteForCausalLM": Family("GRANITE", _rotary_halves),
    "OlmoForCausalLM": Family("OLMO", _rotary_halves),
    "Olmo2ForCausalLM": Family("OLMO2"),
    "Qwen2ForCausalLM": Family("QWEN2"),
    "Qwen2MoeForCausalLM": Family("QWEN2MOE"),
    "Qwen3ForCausalLM": Family("QWEN3"),
    "Qwen3MoeForCausalLM": Family("QWEN3MOE"),
    "GemmaForCausalLM": Family("GEMMA"),
    "Gemma2ForCausalLM": Family("GEMMA2"),
    "Gemma3ForCausalLM": Family("GEMMA3"),
    "Gemma3ForConditionalGeneration": Family("GEMMA3"),
    "PhiForCausalLM": Family("PHI2"),
    "Phi3ForCausalLM": Family("PHI3"),
    "GPT2LMHeadModel": Family("GPT2"),
    "GPTNeoXForCausalLM": Family("GPTNEOX", _heads_first),
    "FalconForCausalLM": Family("FALCON", _groups_first),
    "StableLmForCausalLM": Family("STABLELM"),
    "Starcoder2ForCausalLM": Family("STARCODER2"),
    "CohereForCausalLM": Family("COMMAND_R"),
    "Cohere2ForCausalLM": Family("COHERE2"),
    "Glm4ForCausalLM": Family("GLM4"),
}


def family_of(base: Path) -> tuple[Family, Config]:
    """The family of a model, and the configuration of its language part with every default filled in.

    Args:
        base: folder of the model; only its config.json is read.

    Raises:
        ValueError: llama.cpp's form of this architecture is not known here, or the configuration cannot be read.
    """
    from transformers import AutoConfig

    written = read_json(base / "config.json") or {}
    architecture = str((written.get("architectures") or ["unknown"])[0])
    if architecture not in FAMILIES:
        raise ValueError(
            f"Base model: how llama.cpp stores {architecture} is not known here, so no GGUF can be written for it. "
            f"Known: {', '.join(FAMILIES)}. Merge the adapter (training-pro merge) and convert the merged folder with llama.cpp's "
            f"convert_hf_to_gguf.py."
        )
    try:
        config = AutoConfig.from_pretrained(str(base), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"Base model: {base / 'config.json'} cannot be read: {error} Choose a complete model folder.") from error
    return FAMILIES[architecture], config.get_text_config().to_dict()
