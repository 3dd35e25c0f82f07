"""The model card: README.md in an adapter's folder, from what the run's folder says.

Guarantee: a card that the user has edited is never touched: what was written carries a mark with a digest of its own text, and
only a text that still fits its mark is replaced, besides the form that peft leaves. Folders are named by their last part only,
so that nothing of the machine gets into a file that is made to be shared. Price: the diary is read, where nobody has read it yet.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path, PurePath
from typing import Any

from ..config import RunConfig
from ..runs.state import RunState, read_state
from ..runs.store import RunFolder, read_json
from .adapter import CONFIG, SPARSE

logger = logging.getLogger(__name__)

NAME = "README.md"
MAX_SHOWN = 200  # characters of a setting
_MARK = re.compile(r"<!-- written by Training PRO Hybrid ([0-9a-f]{16}); edit it and it is left alone -->\n")
_PRIVATE = ("run.", "model.path", "adapter.name", "adapter.if_exists")
_METHODS = {"LORA": "LoRA", "VERA": "VeRA", "IA3": "(IA)3"}
_PEFT_LINES = re.compile(r"### Framework versions|- PEFT .*|## Training procedure|The following `bitsandbytes` .*|- \w+: .*")


def write_card(folder: RunFolder, state: RunState | None = None) -> str:
    """Write the card, if the folder holds a result and no card of the user's.

    Args:
        folder: of the run.
        state: what its diary says; None reads it.

    Returns:
        Why there is none, in a sentence; empty if there is. Never raises: a card must not stop a run.
    """
    try:
        return make_card(folder, state)
    except Exception as error:
        logger.debug("the model card failed", exc_info=True)
        return f"The model card could not be written: {error or type(error).__name__}"


def make_card(folder: RunFolder, state: RunState | None = None) -> str:
    """:func:`write_card` that raises.

    Raises:
        ValueError: the folder holds nothing that was trained.
        OSError: the file cannot be written.
    """
    kind = kind_of(folder.path)
    place = folder.path / NAME
    if place.is_file() and not is_ours(place.read_text(encoding="utf-8", errors="replace")):
        return f"{place} was edited, so it is left as it is. Move it away for a new model card."
    front, body = card_text(folder, kind, state or read_state(folder))
    temporary = place.with_name(f".{NAME}.{os.getpid()}.tmp")
    try:
        temporary.write_text(
            f"{front}<!-- written by Training PRO Hybrid {_digest(front, body)}; edit it and it is left alone -->\n{body}",
            encoding="utf-8",
        )
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
    return ""


def kind_of(path: Path) -> str:
    """What a folder holds: adapter, sparse or model.

    Raises:
        ValueError: none of them.
    """
    if (path / CONFIG).is_file():
        return "adapter"
    if (path / SPARSE).is_file():
        return "sparse"
    if (path / "config.json").is_file():
        return "model"
    raise ValueError(
        f"Adapter: {path} holds no adapter and no model, so there is nothing to describe. Give the folder of a finished run."
    )


def _digest(front: str, body: str) -> str:
    return hashlib.sha256((front + body).encode()).hexdigest()[:16]


def is_ours(text: str) -> bool:
    """Whether a card is as it was written: by us, or by peft."""
    mark = _MARK.search(text)
    if mark:
        return _digest(text[: mark.start()], text[mark.end() :]) == mark[1]
    return _is_pefts_form(text)


def _is_pefts_form(text: str) -> bool:
    """Whether it is the form to fill in that peft saves beside each adapter, with nothing filled in."""
    from huggingface_hub import ModelCard, ModelCardData

    def lines(text: str) -> set[str]:
        body = re.sub(r"\A\s*---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
        return {line.strip() for line in body.splitlines()} - {""}

    form, found = lines(ModelCard.from_template(ModelCardData()).text), lines(text)
    return bool(form) and form <= found and all(_PEFT_LINES.fullmatch(line) for line in found - form)


# --- the text ------------------------------------------------------------------------------------------------------------------


def card_text(folder: RunFolder, kind: str, state: RunState) -> tuple[str, str]:
    """Front matter for the Hugging Face hub, and the card below it."""
    import yaml

    parameters = read_json(folder.parameters)
    config = RunConfig.from_dict(parameters) if isinstance(parameters, dict) else None
    peft_config = read_json(folder.path / CONFIG) or {}
    base = _base_name(config, peft_config)
    method = _METHODS.get(str(peft_config.get("peft_type", "")), "") or {"sparse": "SIFT", "model": "full fine-tuning"}.get(
        kind, ""
    )
    method = "DoRA" if peft_config.get("use_dora") else method or str(peft_config["peft_type"])
    front: dict[str, Any] = {"library_name": "peft" if kind == "adapter" else "transformers", "pipeline_tag": "text-generation"}
    if base:
        front["base_model"] = base
    front["tags"] = ["training-pro-hybrid", re.sub(r"\W+", "-", method.lower()).strip("-")]
    sections = [
        _head(folder.name, kind, method, base, peft_config),
        _results(folder, state),
        _data(state.report, config),
        _settings(config),
        _loading(folder.name, kind, method, base),
        _versions(folder),
    ]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n", "\n\n".join(filter(None, sections)) + "\n"


def _base_name(config: RunConfig | None, peft_config: dict[str, Any]) -> str:
    """Name of the base as on the hub (``owner/name``), or the last part of its folder; empty if unknown."""
    written = str((config.model.path if config else "") or peft_config.get("base_model_name_or_path") or "")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", written) and not Path(written).exists():
        return written
    return _leaf(written)


def _leaf(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _head(name: str, kind: str, method: str, base: str, peft_config: dict[str, Any]) -> str:
    on = f" of **{base}**" if base else ""
    what = {
        "adapter": f"An adapter ({method}){on.replace(' of', ' for', 1)}",
        "sparse": f"A sparse increment (SIFT){on.replace(' of', ' for', 1)}: the components of its weights that were trained",
        "model": f"A whole model: a full fine-tuning{on}",
    }[kind]
    parts = [f"rank {peft_config['r']}"] if peft_config.get("r") else []
    if isinstance(peft_config.get("target_modules"), list):
        parts.append(f"on {', '.join(sorted(peft_config['target_modules']))}")
    details = f" ({'; '.join(parts)})" if parts else ""
    return f"# {name}\n\n{what}{details}. Made with Training PRO Hybrid. The licence of the base model applies."


def _results(folder: RunFolder, state: RunState) -> str:
    rows: list[tuple[str, str]] = []
    last = state.last_step
    if last:
        of = f" of {state.plan['num_steps']}" if state.plan.get("num_steps") else ""
        rows.append(("Optimizer steps", f"{last['step']}{of}"))
        rows.append(("Epochs", f"{last.get('epoch') or 0:.2f}"))
        rows.append(
            ("Training loss, smoothed", f"{_number(state.steps[0].get('smoothed_loss'))} → {_number(last.get('smoothed_loss'))}")
        )
    if state.evaluations:
        rows.append(
            (
                "Loss on held-out samples",
                f"{_number(state.evaluations[0].get('loss'))} → {_number(state.evaluations[-1].get('loss'))}",
            )
        )
    if state.status:
        rows.append(("How it ended", state.end.get("message") or _ended(folder) or state.status))
    if not rows:
        return ""
    picture = f"\n\n![Loss and learning rate]({folder.graph.name})" if folder.graph.is_file() else ""
    return f"## Result\n\n{_table(('', ''), rows)}{picture}"


def _ended(folder: RunFolder) -> str:
    """The log's word: while the card of a run is written, its diary has not ended."""
    log = read_json(folder.log)
    return str(log.get("message") or "") if isinstance(log, dict) else ""


def _data(report: dict[str, Any], config: RunConfig | None) -> str:
    if not report:
        return ""
    rows = [
        (_cell(_leaf(str(entry.get("file", "")))), f"{entry.get('rows', 0):,} rows, {entry.get('format', '')}")
        for entry in report.get("files", [])
    ]
    rows.append(("Samples", f"{report.get('num_samples', 0):,}"))
    if report.get("num_eval_samples"):
        rows.append(("Held-out samples", f"{report['num_eval_samples']:,}"))
    rows.append(
        ("Tokens, of an epoch", f"{report.get('num_tokens', 0):,}, {report.get('num_trained_tokens', 0):,} of them trained")
    )
    if left_out := _left_out(report):
        rows.append(("Not trained", left_out))
    if config:
        rows.append(("Longest sample", f"at most {config.data.cutoff:,} tokens"))
        rows.append(("Chat template", _cell(_leaf(config.model.chat_template) or "the model's own")))
    return f"## Data\n\n{_table(('', ''), rows)}"


# counts of the report -> what they count
_LEFT_OUT = {
    "num_broken": "broken rows",
    "num_too_long": "conversations over the cutoff",
    "num_cut_replies": "replies cut off",
    "num_untrained": "samples without a trained token",
    "num_small_blocks": "text blocks too small",
    "num_duplicates": "repeated blocks",
}


def _left_out(report: dict[str, Any]) -> str:
    return ", ".join(f"{report[key]:,} {words}" for key, words in _LEFT_OUT.items() if report.get(key))


def _settings(config: RunConfig | None) -> str:
    """What differs from the defaults, in the form's words."""
    if config is None:
        return ""
    values = config.to_dict()
    rows = []
    for info in config.settings():
        value = values[info.section][info.key]
        if value != info.default and not info.field.startswith(_PRIVATE):
            unit = f" {info.unit}" if info.unit else ""
            rows.append((info.label, f"{_cell(_shown(value))}{unit}"))
    words = "Everything else is at its default." if rows else "All are at their defaults."
    return f"## Settings\n\n{_table(('Setting', 'Value'), rows) if rows else ''}\n\n{words}".replace("\n\n\n\n", "\n\n")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(entry) for entry in value)
    text = str(value) if len(str(value)) <= MAX_SHOWN else f"{str(value)[:MAX_SHOWN]}..."
    return PurePath(_leaf(text)).name if re.match(r"([A-Za-z]:)?[\\/~.]|.*[\\/].*\.\w{1,6}$", text) and "\n" not in text else text


def _loading(name: str, kind: str, method: str, base: str) -> str:
    base = base or "BASE"
    if kind == "model":
        return (
            "## Use\n\nIn text-generation-webui: move this folder to `user_data/models` and load it. In Python:\n\n```python\n"
            f'from transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained("{name}")\n```'
        )
    merge = f"As a model of its own: `training-pro merge {name} --base {base}` writes base and {'increment' if kind == 'sparse' else 'adapter'} as one folder."
    if kind == "sparse":
        return f"## Use\n\n{merge}"
    llama = (
        f"In llama.cpp: `training-pro gguf {name} --base {base}` writes a file for `llama-server -m BASE.gguf --lora FILE.gguf`."
        if method.upper() == "LORA"
        else f"In llama.cpp: merge it, then convert the merged folder; llama.cpp has no {method} adapters."
    )
    return (
        "## Use\n\nIn text-generation-webui: Model tab, load the base with the Transformers loader, then choose the adapter under LoRA(s). "
        "In Python:\n\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{base}")\nmodel = PeftModel.from_pretrained(model, "{name}")\n```\n\n{merge}\n\n{llama}'
    )


def _versions(folder: RunFolder) -> str:
    log = read_json(folder.log)
    versions = log.get("versions") if isinstance(log, dict) else None
    if not versions:
        return ""
    return f"## Versions\n\n{', '.join(f'{name} {version}' for name, version in versions.items())}"


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text that cannot break a table."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "?"
