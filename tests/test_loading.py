"""script.py as the WebUI loads it: from folders of any name, both ways, again and again, lightly, and in workers."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from training_pro import ROOT
from webui_double import loader

FOLDERS = ("training_pro", "my-ext", "2fast", "lora.ext v2")
HOOKS = ["setup", "ui", "custom_css", "custom_js"]
LOADER = ROOT / "tests/webui_double/loader.py"


def clean_environment() -> dict[str, str]:
    """As the WebUI's: nothing of ours on Python's path."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}


def report(root: Path, *arguments: str) -> dict:
    """What a fresh process says that loads the extensions of a WebUI root."""
    command = [sys.executable, str(LOADER), str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment(), check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "log": done.stdout + done.stderr}


def run_code(tmp_path: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process in an empty folder."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(code), encoding="utf-8")
    command = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=clean_environment(), check=False
    )


@pytest.fixture(scope="module")
def copy_of_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has who unpacked an archive: the files, no link."""
    target = tmp_path_factory.mktemp("copy") / "a copy"
    unneeded = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks", "docs", "node_modules", "venv", "*.safetensors")
    return Path(shutil.copytree(ROOT, target, ignore=unneeded))


@pytest.mark.parametrize("folder", FOLDERS)
def test_by_path_from_a_linked_folder(tmp_path: Path, folder: str) -> None:
    found = report(loader.make_root(tmp_path, user={folder: ROOT}), "--times", "2", "--extensions", folder)
    assert found["extensions"] == {folder: {"display_name": "Training PRO Hybrid", "is_tab": True, "hooks": HOOKS}}
    assert found["new_modules"] == ["training_pro"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_by_path_from_a_copied_folder(tmp_path: Path, folder: str, copy_of_the_checkout: Path) -> None:
    root = loader.make_root(tmp_path)
    shutil.copytree(copy_of_the_checkout, root / "user_data/extensions" / folder)
    found = report(root, "--times", "2", "--extensions", folder)
    assert found["extensions"][folder]["hooks"] == HOOKS
    assert found["new_modules"] == ["training_pro"]


@pytest.mark.parametrize("folder", [name for name in FOLDERS if "." not in name])  # the host itself cannot import a dotted one
def test_as_a_module_of_the_webui(tmp_path: Path, folder: str) -> None:
    found = report(loader.make_root(tmp_path, system={folder: ROOT}), "--times", "2", "--extensions", folder)
    assert found["extensions"][folder] == {"display_name": "Training PRO Hybrid", "is_tab": True, "hooks": HOOKS}
    assert found["new_modules"] == ["training_pro"]


def test_loading_is_light_and_takes_under_a_second(tmp_path: Path) -> None:
    root = loader.make_root(tmp_path, user={"my-ext": ROOT})
    reports = [
        report(root, "--extensions", "my-ext") for _ in range(3)
    ]  # the best of three: other work on the machine is not ours
    assert min(found["seconds"] for found in reports) < 1.0
    assert all(set(found["new_modules"]).isdisjoint({"torch", "gradio", "transformers"}) for found in reports)


def test_a_restart_keeps_our_package_and_adds_no_path(tmp_path: Path) -> None:
    root = loader.make_root(tmp_path, user={"my-ext": ROOT})
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from webui_double import loader
        with loader.webui(loader.Path(sys.argv[2]), "--extensions", "my-ext") as host:
            first = host.load_extensions()["my-ext"]
            import training_pro.runs.registry as registry
            registry.claim("a-run")
            second = host.load_extensions()["my-ext"]
            import training_pro.runs.registry as again
            print(first is second, first.ui is second.ui, again.latest().name, again.is_busy())
            print(sum(path.endswith("import_root") for path in sys.path))
    """
    assert run_code(tmp_path, code, ROOT / "tests", root).stdout == "False True a-run True\n1\n"


def test_a_spawned_worker_finds_our_functions(tmp_path: Path) -> None:
    code = """
        import importlib.util, multiprocessing, sys

        def main():
            spec = importlib.util.spec_from_file_location("user_ext_2fast", sys.argv[1])
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            from training_pro.data.collate import Collator
            from training_pro.hybrid_batching import fit_accumulation
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(fit_accumulation, (10, 4, 9)), pool.apply(getattr, (Collator(7), "pad_id")))

        if __name__ == "__main__":
            main()
    """
    link = tmp_path / "2fast"
    link.symlink_to(ROOT, target_is_directory=True)
    done = run_code(tmp_path, code, link / "script.py")
    assert done.stdout == "2 7\n", done.stderr


def test_of_two_copies_the_second_says_so_and_the_first_works(tmp_path: Path, copy_of_the_checkout: Path) -> None:
    root = loader.make_root(tmp_path, user={"first": ROOT, "second": copy_of_the_checkout})
    found = report(root, "--times", "2", "--extensions", "first", "second")
    assert list(found["extensions"]) == ["first"]
    assert found["extensions"]["first"]["hooks"] == HOOKS
    assert 'Failed to load the extension "second"' in found["log"]
    assert f"Training PRO Hybrid is enabled twice: {ROOT} is already loaded, {copy_of_the_checkout} is a second" in found["log"]
    assert "Disable one of the two" in found["log"]


def test_the_error_of_a_second_copy_does_not_stop_the_webui(tmp_path: Path, copy_of_the_checkout: Path) -> None:
    code = """
        import runpy, sys
        runpy.run_path(sys.argv[1])
        try:
            runpy.run_path(sys.argv[2])
        except ImportError as error:  # a ModuleNotFoundError would end the WebUI
            print(type(error).__name__, str(error).split(":")[0])
    """
    done = run_code(tmp_path, code, ROOT / "script.py", copy_of_the_checkout / "script.py")
    assert done.stdout == "ImportError Training PRO Hybrid is enabled twice\n", done.stderr


def test_one_checkout_under_two_names_is_no_second_copy(tmp_path: Path) -> None:
    root = loader.make_root(tmp_path, user={"one": ROOT, "two": ROOT})
    assert list(report(root, "--extensions", "one", "two")["extensions"]) == ["one", "two"]
