"""A WebUI root on disk, and the double's modules imported in it as the WebUI's server imports its own.

The WebUI runs with its root as working directory and as sys.path[0], and reads its flags from sys.argv. `webui` sets up the
same, imports the double and undoes everything at the end, so that a test can do it many times in one process::

    root = make_root(tmp_path, user={"my-ext": CHECKOUT})
    with webui(root, "--extensions", "my-ext", "--cpu") as host:
        host.load_extensions()
        print(host.extensions.state)

As a script it does the same in a fresh process and prints what happened as one line of JSON::

    python tests/webui_double/loader.py ROOT --extensions my-ext

Importing this file imports neither torch nor gradio.
"""

import argparse
import contextlib
import importlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MODULES = Path(__file__).resolve().parent / "modules"
USER_DATA = ("extensions", "loras", "models", "training/datasets", "instruction-templates", "logs")
CHATML = (
    "instruction_template: |-\n"
    "  {%- for message in messages -%}\n"
    "  {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}\n"
    "  {%- endfor -%}\n"
    "  {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"
)
HOST_NAMES = ("modules", "extensions")


def make_root(folder: Path, *, user: Mapping[str, Path] | None = None, system: Mapping[str, Path] | None = None) -> Path:
    """Lay out a WebUI root: modules, user_data, extensions.

    Args:
        folder: Where; made if absent.
        user: Extensions of the user (name of the folder -> what it links to), in user_data/extensions.
        system: Extensions of the WebUI itself, in extensions.
    """
    for name in USER_DATA:
        (folder / "user_data" / name).mkdir(parents=True, exist_ok=True)
    (folder / "extensions").mkdir(exist_ok=True)
    (folder / "user_data/instruction-templates/ChatML.yaml").write_text(CHATML, encoding="utf-8")
    (folder / "user_data/training/datasets/put-trainer-datasets-here.txt").touch()
    (folder / "user_data/loras/place-your-loras-here.txt").touch()
    shutil.copytree(MODULES, folder / "modules", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for home, wanted in (("user_data/extensions", user), ("extensions", system)):
        for name, target in (wanted or {}).items():
            _put(folder / home / name, target)
    return folder


def _put(place: Path, target: Path) -> None:
    """A link, or a copy where the system allows no links."""
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError:
        shutil.copytree(target, place, ignore=shutil.ignore_patterns(".*", "__pycache__"))


class Host:
    """The double's modules of one root, as attributes: host.shared, host.utils, host.LoRA, ..."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"modules.{name}")

    def load_model(self, name: str) -> None:
        """What the server does with --model, and the lock that it makes after it."""
        self.shared.model, self.shared.tokenizer = self.models.load_model(name)

    def load_extensions(self) -> dict[str, Any]:
        """What the server does before it builds the page; also what a restart of the page does.

        Returns:
            Name of the extension -> its module, for those that came up.
        """
        self.extensions.available_extensions = self.utils.get_available_extensions()
        if self.shared.generation_lock is None:
            self.shared.generation_lock = threading.Lock()
        if self.shared.args.extensions:
            self.extensions.load_extensions()
        return {name: extension for extension, name in self.extensions.iterator()}


@contextlib.contextmanager
def webui(root: Path, *flags: str) -> Iterator[Host]:
    """Be the WebUI: its folder, its flags, its modules. At the end all are as before.

    `training_pro` stays imported, as it does in the WebUI; a test that wants it fresh runs in a process of its own.
    """
    before = Path.cwd(), list(sys.path), list(sys.argv)
    hidden = _take_out(HOST_NAMES)
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.argv = ["server.py", *flags]
    importlib.invalidate_caches()
    try:
        yield Host()
    finally:
        _take_out(HOST_NAMES)
        sys.modules.update(hidden)
        os.chdir(before[0])
        sys.path[:], sys.argv = before[1], before[2]


def _take_out(names: tuple[str, ...]) -> dict[str, Any]:
    """Remove packages, what is in them and the users' scripts from sys.modules; return what was removed."""
    found = [key for key in sys.modules if key.split(".")[0] in names or key.startswith("user_ext_")]
    return {key: sys.modules.pop(key) for key in found}


def report(root: Path, flags: list[str], *, times: int = 1) -> dict[str, Any]:
    """Load the extensions `times` times and say what came up, what it imported and how long the first time took.

    Returns:
        extensions: name -> display_name, is_tab and the hooks that it has, for those that came up.
        new_modules: Top-level names that loading brought into sys.modules, beside Python's own, the host's and the scripts.
        seconds: Of the first load.
    """
    with webui(root, *flags) as host:
        importlib.import_module("modules.extensions")
        importlib.import_module("modules.utils")
        known = set(sys.modules)
        started = time.perf_counter()
        loaded = host.load_extensions()
        seconds = time.perf_counter() - started
        for _ in range(times - 1):
            loaded = host.load_extensions()
        new = {key.split(".")[0] for key in set(sys.modules) - known}
        extensions = {
            name: {
                "display_name": getattr(module, "params", {}).get("display_name", name),
                "is_tab": getattr(module, "params", {}).get("is_tab", False),
                "hooks": [hook for hook in ("setup", "ui", "custom_css", "custom_js") if hasattr(module, hook)],
            }
            for name, module in loaded.items()
        }
    new -= {*HOST_NAMES, *sys.stdlib_module_names}
    new_modules = sorted(name for name in new if not name.startswith("user_ext_"))
    return {"extensions": extensions, "new_modules": new_modules, "seconds": seconds}


def main() -> None:
    """Print the report of a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--times", type=int, default=1)
    arguments, flags = parser.parse_known_args()
    sys.path.pop(0)  # the WebUI's sys.path has its root first, not this folder
    print(json.dumps(report(arguments.root.resolve(), flags, times=arguments.times)))


if __name__ == "__main__":
    main()
