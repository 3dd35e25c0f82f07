"""What an adapter's folder says of itself, where its base is found, and how strong its pairs are."""

import json
import shutil
from pathlib import Path

import export_cases
import pytest
import torch
from training_pro.export.adapter import find_base, lora_pairs, more_than_pairs, read_adapter


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return export_cases.tiny_base(tmp_path / "models" / "tiny")


@pytest.fixture
def folder(tmp_path: Path, base: Path) -> Path:
    return export_cases.adapter(tmp_path / "loras" / "mine", base, export_cases.lora(["q_proj"]))


def test_an_adapter_is_read(folder: Path) -> None:
    export_cases.of_run(folder, model={"chat_template": "vicuna"})
    adapter = read_adapter(folder)
    assert (adapter.name, adapter.method, adapter.config["r"], adapter.chat_template) == ("mine", "lora", 4, "vicuna")


def test_a_checkpoint_is_named_after_its_run_and_has_its_settings(folder: Path) -> None:
    shutil.copytree(folder, folder / "checkpoint-12")
    export_cases.of_run(folder, model={"path": "somewhere"})
    adapter = read_adapter(folder / "checkpoint-12")
    assert (adapter.name, adapter.run) == ("mine-checkpoint-12", {"model": {"path": "somewhere"}})


def test_folders_that_are_no_adapter(tmp_path: Path, base: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*loras/nothing|there is no folder .*loras\\nothing"):
        read_adapter(tmp_path / "loras" / "nothing")
    with pytest.raises(ValueError, match="holds a whole model already .*Load that folder itself"):
        read_adapter(base)
    with pytest.raises(ValueError, match="has neither adapter_config.json nor sift.safetensors"):
        read_adapter(tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="nothing was saved there"):
        read_adapter(folder)


# --- the base ------------------------------------------------------------------------------------------------------------------


def test_the_base_is_where_the_adapter_says(folder: Path, base: Path) -> None:
    assert find_base(read_adapter(folder)) == base


def test_the_run_knows_better_than_peft(tmp_path: Path, folder: Path) -> None:
    other = export_cases.tiny_base(tmp_path / "other")
    export_cases.of_run(folder, model={"path": str(other)})
    assert find_base(read_adapter(folder)) == other


def test_the_users_word_wins(tmp_path: Path, folder: Path) -> None:
    other = export_cases.tiny_base(tmp_path / "other")
    assert find_base(read_adapter(folder), other) == other
    with pytest.raises(ValueError, match=r"Base model \(--base\): .* holds no model"):
        find_base(read_adapter(folder), tmp_path)


def test_a_relative_base_is_seen_from_the_folders_above_the_adapter(tmp_path: Path, folder: Path, base: Path) -> None:
    """As in the WebUI, which names its models from its own folder."""
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "models/tiny"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert find_base(read_adapter(folder)) == base


def test_a_base_that_was_moved_with_the_adapters_is_found(tmp_path: Path, folder: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "models", moved / "models")
    shutil.move(tmp_path / "loras", moved / "loras")
    assert find_base(read_adapter(moved / "loras" / "mine")) == moved / "models" / "tiny"


def test_without_a_base_every_tried_place_is_named(folder: Path, base: Path) -> None:
    shutil.rmtree(base)
    with pytest.raises(ValueError, match="is not found. Tried: .*tiny.*Give its folder with --base"):
        find_base(read_adapter(folder))


# --- pairs ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 3, "q_proj": 5}},
        {"use_rslora": True, "rank_pattern": {r"layers\.0\..*k_proj": 1}, "alpha_pattern": {"k_proj": 7}},
    ],
)
def test_the_strength_of_each_module_is_pefts(tmp_path: Path, base: Path, changes: dict[str, object]) -> None:
    """The oracle: the scaling of peft's own layers."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    config = export_cases.lora(["q_proj", "k_proj", "v_proj"], **changes)
    folder = export_cases.adapter(tmp_path / "a", base, config)
    loaded = PeftModel.from_pretrained(export_cases.load(base), folder)
    wanted = {
        path.removeprefix("base_model.model."): (layer.scaling["default"], layer.r["default"])
        for path, layer in loaded.named_modules()
        if isinstance(layer, LoraLayer)
    }
    pairs, others = lora_pairs(read_adapter(folder))
    assert others == []
    assert len(wanted) == 6
    assert {module: (pytest.approx(pair.scale), pair.rank) for module, pair in pairs.items()} == wanted


def test_an_adapter_as_torch_file_is_read_too(folder: Path) -> None:
    from safetensors.torch import load_file

    wanted, _ = lora_pairs(read_adapter(folder))
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    found, _ = lora_pairs(read_adapter(folder))
    assert found.keys() == wanted.keys() != set()
    assert all(torch.equal(found[name].b, wanted[name].b) for name in wanted)


def test_half_a_pair_and_damaged_files_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}  # the file is about to change under it
    first = next(name for name in tensors if "lora_A" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, file)
    with pytest.raises(ValueError, match="no pair of A and B"):
        lora_pairs(read_adapter(folder))
    save_file({**tensors, first: tensors[first][:2]}, file)
    with pytest.raises(ValueError, match="no pair of A and B"):
        lora_pairs(read_adapter(folder))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read: .*Take a whole copy"):
        lora_pairs(read_adapter(folder))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"lora_bias": True}, "biases of its own"),
        ({"modules_to_save": ["lm_head"]}, r"whole modules \(lm_head\)"),
        ({"target_parameters": ["experts"]}, "experts"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": True, "bias": "none", "modules_to_save": None, "use_dora": False}, ""),
    ],
)
def test_what_is_more_than_its_pairs(config: dict[str, object], words: str) -> None:
    import re

    assert bool(more_than_pairs(config)) == bool(words)
    assert re.search(words, more_than_pairs(config))
