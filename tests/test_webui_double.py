"""The double of the WebUI's modules: it is compared with a real checkout, and behaves like one."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import compare_webui_double
import gradio_shim
import pytest
from webui_double import loader

TESTS = Path(__file__).resolve().parent
WEBUI = os.environ.get("TRAINING_PRO_WEBUI")

SCRIPT = """
    import {imports}
    params = {{"display_name": "Probe", "is_tab": True, "rank": 8}}
    calls = []
    def setup(): calls.append("setup")
    def ui(): pass
"""


# --- the comparison -------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A WebUI checkout as far as the comparison looks: here the double's own files, to be changed by a test."""
    shutil.copytree(loader.MODULES, tmp_path / "webui/modules", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "webui"


@pytest.mark.skipif(not WEBUI, reason="TRAINING_PRO_WEBUI names no WebUI checkout")
def test_the_double_looks_like_the_webui() -> None:
    assert compare_webui_double.compare(Path(WEBUI or "")) == []


def test_no_difference_to_an_equal_checkout(checkout: Path) -> None:
    assert len(list(loader.MODULES.glob("*.py"))) >= 10
    assert compare_webui_double.compare(checkout) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "difference"),
    [
        (
            "models.py",
            "model_name, loader=None",
            "name, loader=None",
            "load_model: double (model_name, loader=None), WebUI (name",
        ),
        ("models.py", "keep_model_name=False", "keep_model_name=True", "unload_model: double (keep_model_name=False)"),
        ("models.py", "def reload_model", "def load_again", "reload_model: the WebUI has no such function"),
        ("text_generation.py", "yield from _generate", "return _generate", "generate_reply: double (*args, **kwargs) generator"),
        ("exllamav3.py", "@classmethod", "@staticmethod", "Exllamav3Model.from_pretrained: double @classmethod"),
        ("shared.py", "lora_names = []", "lora_names = None", "lora_names: double [], WebUI None"),
        ("shared.py", "generation_lock", "other_lock", "generation_lock: the WebUI has no such attribute"),
        ("shared.py", '"truncation_length": 8192', '"truncation_length": 2048', "settings['truncation_length']: double 8192"),
        ("shared.py", '"mode": "instruct"', '"m": "instruct"', "settings['mode']: the WebUI has no such setting"),
        ("shared.py", '"--lora-dir"', '"--loras"', "flag --lora-dir: the WebUI has no such flag"),
        ("shared.py", 'default="nf4"', 'default="fp4"', "flag --quant_type: double"),
        ("extensions.py", "user_ext_", "extension_", "spec_from_file_location(f'user_ext_{name}'): the WebUI has no such call"),
        ("extensions.py", "            raise\n", "            pass\n", "load_extensions: double catches"),
        ("utils.py", '"-np", ', "", "endswith(('.txt', '-np', '.pt', '.json')): the WebUI has no such call"),
    ],
)
def test_each_kind_of_difference_is_found(checkout: Path, file: str, old: str, new: str, difference: str) -> None:
    path = checkout / "modules" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = compare_webui_double.compare(checkout)
    assert any(line.startswith(f"modules/{file}: {difference}") for line in found), found


def test_what_only_the_webui_has_is_no_difference(checkout: Path) -> None:
    with (checkout / "modules/utils.py").open("a", encoding="utf-8") as file:
        file.write("\nMORE = 1\ndef more(): pass\n")
    assert compare_webui_double.compare(checkout) == []


def test_annotations_and_missing_files_of_the_webui(checkout: Path) -> None:
    path = checkout / "modules/utils.py"
    path.write_text(path.read_text(encoding="utf-8").replace("(path: str, ext: str)", "(path, ext)"), encoding="utf-8")
    assert compare_webui_double.compare(checkout) == []
    path.unlink()
    assert compare_webui_double.compare(checkout) == ["modules/utils.py: the WebUI has no such file"]


def test_the_comparison_as_a_script(checkout: Path, tmp_path: Path) -> None:
    def run(webui: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TESTS / "compare_webui_double.py"), "--webui", str(webui)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(checkout).returncode == 0
    (checkout / "modules/LoRA.py").unlink()
    changed = run(checkout)
    assert (changed.returncode, changed.stdout) == (1, "modules/LoRA.py: the WebUI has no such file\n")
    missing = run(tmp_path / "nowhere")
    assert missing.returncode == 2
    assert "name the folder of a text-generation-webui checkout" in missing.stderr


# --- loading extensions ---------------------------------------------------------------------------------------------


def extension(folder: Path, text: str) -> Path:
    """An extension's folder with this script."""
    folder.mkdir(parents=True)
    (folder / "script.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def test_a_user_script_runs_again_and_a_system_script_once(tmp_path: Path) -> None:
    folder = extension(tmp_path / "code", SCRIPT.format(imports="json"))
    root = loader.make_root(tmp_path / "root", user={"my-ext": folder}, system={"2fast": folder})
    before = list(sys.path), Path.cwd(), set(sys.modules)
    with loader.webui(root, "--extensions", "my-ext", "2fast", "absent") as host:
        first, again = host.load_extensions(), host.load_extensions()
        assert list(first) == ["my-ext", "2fast"]
        assert first["my-ext"] is not again["my-ext"]
        assert first["2fast"] is again["2fast"]
        assert [module.calls for module in again.values()] == [["setup"], ["setup"]]
        assert (again["my-ext"].__name__, again["my-ext"].__package__) == ("user_ext_my-ext", "")
        assert (again["2fast"].__name__, again["2fast"].__package__) == ("extensions.2fast.script", "extensions.2fast")
        assert host.shared.default_settings["my-ext-rank"] == 8
    assert (list(sys.path), Path.cwd()) == before[:2]
    left = {key for key in set(sys.modules) - before[2] if key.split(".")[0] in loader.HOST_NAMES or key.startswith("user_ext_")}
    assert left == set()


def test_a_user_extension_hides_the_systems_of_the_same_name(tmp_path: Path) -> None:
    mine = extension(tmp_path / "mine", SCRIPT.format(imports="json"))
    theirs = extension(tmp_path / "theirs", SCRIPT.format(imports="json"))
    root = loader.make_root(tmp_path / "root", user={"twin": mine}, system={"twin": theirs, "alone": theirs})
    with loader.webui(root, "--extensions", "twin") as host:
        assert host.utils.get_available_extensions() == ["twin", "alone"]
        assert host.load_extensions()["twin"].__name__ == "user_ext_twin"


def test_settings_replace_params(tmp_path: Path) -> None:
    folder = extension(tmp_path / "code", SCRIPT.format(imports="json"))
    with loader.webui(loader.make_root(tmp_path / "root", user={"x": folder}), "--extensions", "x") as host:
        host.shared.settings["x-rank"] = 64
        assert host.load_extensions()["x"].params["rank"] == 64


def test_a_missing_module_ends_the_webui_and_other_errors_do_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = extension(tmp_path / "broken", "raise ImportError('enabled twice')")
    missing = extension(tmp_path / "missing", SCRIPT.format(imports="no_such_module_anywhere"))
    good = extension(tmp_path / "good", SCRIPT.format(imports="json"))
    root = loader.make_root(tmp_path / "root", user={"a": broken, "b": missing, "c": good})
    with loader.webui(root, "--extensions", "a", "c") as host:
        assert list(host.load_extensions()) == ["c"]
        assert 'Failed to load the extension "a"' in caplog.text
        host.shared.args.extensions = ["b", "c"]
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            host.load_extensions()


def test_a_system_folder_with_a_dot_cannot_be_imported(tmp_path: Path) -> None:
    folder = extension(tmp_path / "code", SCRIPT.format(imports="json"))
    root = loader.make_root(tmp_path / "root", system={"lora.ext v2": folder, "my-ext": folder})
    with loader.webui(root, "--extensions", "my-ext") as host:
        assert list(host.load_extensions()) == ["my-ext"]
        host.shared.args.extensions = ["lora.ext v2"]
        with pytest.raises(ModuleNotFoundError, match=r"extensions\.lora"):
            host.load_extensions()


def test_the_report_of_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/lonely_module_of_a_test.py").touch()
    text = f"import sys; sys.path.append(r'{tmp_path / 'code'}')\n" + SCRIPT.format(imports="lonely_module_of_a_test")
    folder = extension(tmp_path / "code/ext", textwrap.dedent(text.replace("\n    ", "\n")))
    root = loader.make_root(tmp_path / "root", user={"lora.ext v2": folder})
    command = [sys.executable, str(TESTS / "webui_double/loader.py"), str(root), "--times", "2", "--extensions", "lora.ext v2"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert report["new_modules"] == ["lonely_module_of_a_test"]
    assert report["extensions"] == {"lora.ext v2": {"display_name": "Probe", "is_tab": True, "hooks": ["setup", "ui"]}}
    assert report["seconds"] < 5


# --- flags, lists, models -------------------------------------------------------------------------------------------


def test_flags_move_the_folders(tmp_path: Path) -> None:
    root = loader.make_root(tmp_path / "root")
    with loader.webui(root, "--cpu", "--loader", "transformers") as host:
        args = host.shared.args
        assert (args.loader, args.cpu, args.bf16, args.load_in_4bit, args.load_in_8bit) == (
            "Transformers",
            True,
            False,
            False,
            False,
        )
        assert (args.multi_user, args.listen, args.extensions) == (False, False, None)
        assert host.shared.user_data_dir == Path("user_data")
        assert Path(args.lora_dir) == Path("user_data/loras")
        assert (host.shared.model, host.shared.lora_names, host.shared.model_name) == (None, [], "None")
    with loader.webui(root, "--user-data-dir", str(tmp_path / "mine"), "--lora-dir", "there", "--multi-user") as host:
        assert host.shared.user_data_dir == tmp_path / "mine"
        assert (Path(host.shared.args.model_dir), host.shared.args.lora_dir) == (tmp_path / "mine/models", "there")
        assert host.shared.args.multi_user


def test_lists_are_filtered_and_sorted_naturally(tmp_path: Path) -> None:
    root = loader.make_root(tmp_path / "root")
    for name in ("run10", "run2", "old-np"):
        (root / "user_data/loras" / name).mkdir()
    for name in ("notes.json", "weights.pt", "readme.md"):
        (root / "user_data/loras" / name).touch()
    sets = root / "user_data/training/datasets"
    (sets / "books").mkdir()
    (sets / "a.txt").touch()
    (sets / "chat.json").write_text('[{"messages": []}]')
    (sets / "share.json").write_text('[{"conversations": []}]')
    (sets / "raw.json").write_text('[{"text": "x"}]')
    (sets / "broken.json").write_text("[")
    with loader.webui(root) as host:
        assert host.utils.get_available_loras() == ["None", "readme.md", "run2", "run10"]
        assert host.utils.get_datasets(str(sets), "txt") == ["None", "a", "books"]
        assert host.utils.get_datasets(str(sets), "json") == ["None", "broken", "chat", "raw", "share"]
        assert host.utils.get_chat_datasets(str(sets)) == ["None", "chat", "share"]
        assert host.utils.get_text_datasets(str(sets)) == ["None", "raw"]
        assert host.utils.get_available_instruction_templates() == ["None", "ChatML"]
        assert "<|im_start|>" in host.models_settings.load_template_by_name("ChatML")
        assert host.models_settings.load_template_by_name("absent") == ""


def test_models_that_cannot_train_are_told_by_their_class(tmp_path: Path) -> None:
    with loader.webui(loader.make_root(tmp_path / "root"), "--loader", "llama.cpp") as host:
        host.load_model("some.gguf")
        model = host.shared.model
        assert (type(model).__name__, host.shared.args.loader, host.shared.model_name) == (
            "LlamaServer",
            "llama.cpp",
            "some.gguf",
        )
        host.models.unload_model(keep_model_name=True)
        assert (model.stopped, host.shared.model, host.shared.model_name) == (True, None, "some.gguf")
        model, _ = host.models.load_model("exl3", loader="ExLlamav3")
        assert type(model).__name__ == "Exllamav3Model"


def test_a_reply_holds_the_lock_and_a_hook_replaces_it(tmp_path: Path) -> None:
    folder = extension(tmp_path / "code", SCRIPT.format(imports="json"))
    with loader.webui(loader.make_root(tmp_path / "root", user={"x": folder}), "--extensions", "x") as host:
        module = host.load_extensions()["x"]
        lock = host.shared.generation_lock
        assert list(host.text_generation.generate_reply("Hello", {})) == [""]  # no model
        module.custom_generate_reply = lambda *args, **kwargs: iter([f"training, lock held: {lock.locked()}"])
        assert list(host.text_generation.generate_reply("Hello", {})) == ["training, lock held: True"]
        assert not lock.locked()
        assert host.models.active_generation_count == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WebUI root with a model of 11,000 weights, a tokenizer of single characters and three adapters."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    root = loader.make_root(tmp_path_factory.mktemp("webui"))
    vocabulary = {text: index for index, text in enumerate(["<eos>", *"abcdefgh "])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<eos>"))
    words.pre_tokenizer = Split("", "isolated")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(root / "user_data/models/tiny")
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>").save_pretrained(root / "user_data/models/tiny")
    for name, rank in (("one", 2), ("two", 2), ("big", 4)):
        adapter = peft.get_peft_model(
            LlamaForCausalLM(config), peft.LoraConfig(r=rank, target_modules=["q_proj"], init_lora_weights=False)
        )
        adapter.save_pretrained(root / "user_data/loras" / name)
    return root


def test_adapters_go_on_and_off(tiny: Path) -> None:
    import torch

    with loader.webui(tiny, "--cpu") as host:
        host.load_model("tiny")
        ids = torch.tensor([[1, 2, 3, 4]])

        def logits() -> torch.Tensor:
            with torch.no_grad():
                return host.shared.model(ids).logits

        base = logits()
        host.LoRA.add_lora_to_model(["one"])
        assert type(host.shared.model).__name__ == "PeftModel"
        assert not torch.equal(logits(), base)
        host.LoRA.add_lora_to_model(["one", "two"])
        assert list(host.shared.model.peft_config) == ["one", "two", "__merged"]
        host.LoRA.add_lora_to_model([])
        assert (type(host.shared.model).__name__, host.shared.lora_names) == ("LlamaForCausalLM", [])
        assert torch.equal(logits(), base)


def test_two_adapters_at_once_fail_half_way(tiny: Path) -> None:
    with loader.webui(tiny, "--cpu") as host:
        host.load_model("tiny")
        with pytest.raises(ValueError, match="empty sequence"):
            host.LoRA.add_lora_to_model(["one", "two"])
        assert (type(host.shared.model).__name__, host.shared.lora_names) == ("PeftModel", [])  # as in the WebUI


def test_chat_with_a_model_and_reload_forgets_it(tiny: Path) -> None:
    with loader.webui(tiny, "--cpu") as host:
        host.load_model("tiny")
        host.load_extensions()
        [reply] = host.text_generation.generate_reply("abc", {"max_new_tokens": 4})
        assert isinstance(reply, str)
        with pytest.raises(OSError, match="None"):
            host.models.reload_model()
        assert host.shared.model_name == "None"


def test_perplexity_of_a_text_file(tiny: Path) -> None:
    pytest.importorskip("pandas")
    (tiny / "user_data/training/datasets/letters.txt").write_text("abcabcabc" * 8)
    with loader.webui(tiny, "--cpu") as host:
        host.load_model("tiny")
        *_, last = host.evaluate.calculate_perplexity(["current model"], "letters", 32, 32)
        assert "The perplexity for `tiny` is: " in last
        assert list(host.evaluate.generate_markdown_table()["Dataset"]) == ["letters"]


def test_refresh_button(tmp_path: Path) -> None:
    gradio_shim.install()
    gradio = pytest.importorskip("gradio", exc_type=ImportError)
    with loader.webui(loader.make_root(tmp_path / "root")) as host, gradio.Blocks():
        box = gradio.Dropdown(["a"], value="a")
        button = host.ui.create_refresh_button(box, lambda: None, lambda: {"choices": ["a", "b"]}, "refresh-button")
        assert button.value == "↻"
        assert button.elem_classes == ["refresh-button", "refresh-icon-btn"]
