"""The rooms of the project: who may import whom, what stays light, and how long things may be."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_pro import ROOT

PACKAGE = "training_pro"
SKIPPED = {"build", "dist", "venv", "node_modules", "__pycache__", "site-packages"}

# files that belong to a room of another name
ROOM_OF = {
    **{"sentences": "chunking", "slicing": "chunking", "schedules": "custom_scheduler", "import_root": "root"},
    **{"terminal": "cli", "terminal_plan": "cli", "batching": "hybrid_batching", "adapting": "train_utils"},
    **{"cli_export": "cli", "cli_queue": "cli"},
}
LIGHT_TABLES = {"chunking", "custom_scheduler", "data", "hybrid_batching", "train_utils"}
ANY = None

# room -> rooms that it may import; every room may import the package itself (ROOT, __version__)
MAY_IMPORT: dict[str, set[str] | None] = {
    "root": set(),
    "chunking": set(),
    "custom_scheduler": set(),
    "hybrid_batching": set(),
    "train_utils": set(),
    "data": {"chunking"},
    "config": LIGHT_TABLES,
    "runs": {"config"},
    "training": {
        *("config", "data", "runs", "custom_scheduler", "hybrid_batching", "train_utils", "evaluation"),
        *("matplotgraph", "export"),  # a run ends by drawing its own graph and writing its model card
    },
    "evaluation": {"config", "data", "runs"},
    "matplotgraph": {"config", "data", "runs"},
    "export": {"config", "runs", "train_utils"},
    "ui": {"config", "data", "runs", "evaluation", "matplotgraph"},
    "hosts": ANY,
    "cli": ANY,
    "script": {"hosts"},
    "start": {"hosts"},
}
# modules that run where nothing is installed yet, or that everybody imports
LIGHT = (
    *("config", "custom_scheduler", "hybrid_batching", "chunking", "data.formats", "train_utils"),
    *("runs.store", "runs.events", "runs.control", "runs.registry", "runs.checkpoints", "runs.state"),
    *("ui.css", "ui.host", "hosts.webui", "cli"),
)
HEAVY = ("torch", "gradio", "transformers", "peft", "datasets", "pandas", "matplotlib")
STDLIB_ONLY = ("start.py", "script.py", "hosts/setup_display.py", "hosts/setup_environment.py", "hosts/setup_machine.py")

MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 500, 70, 8
# place -> why it may be longer or take more
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {}


def python_files(top: Path = ROOT) -> list[Path]:
    """Every Python file of the checkout, without environments and what was built."""
    found = []
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED and not name.startswith(".")]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def source_files() -> list[Path]:
    """Those that are the program: no tests, no benchmarks, no examples."""
    return [path for path in python_files() if relative(path).split("/")[0] not in {"tests", "benchmarks", "examples", "docs"}]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """``data/prepare.py`` -> ``data.prepare``; a package is named like its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "import_root":
        return ""
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    first = module.split(".")[0] or "import_root"
    return ROOM_OF.get(first, first)


SOURCES = source_files()
MODULES = {module_name(path) for path in SOURCES} - {""}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, also inside functions; ours begin with ``training_pro``."""
    is_package = path.name == "__init__.py"
    own = f"{PACKAGE}.{module_name(path)}".rstrip(".")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = own.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *filter(None, [base])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full.removeprefix(f"{PACKAGE}.") in MODULES else base


def wrong_arrows(path: Path) -> list[str]:
    """Imports of a file that its room may not make."""
    room = room_of(module_name(path))
    allowed = MAY_IMPORT[room]
    wrong = []
    for line, name in imported(path):
        package, _, module = name.partition(".")
        if package == PACKAGE and module and allowed is not ANY and room_of(module) not in {room, *allowed}:
            wrong.append(f"{relative(path)}:{line} imports {module}: the room {room} may import {sorted(allowed) or 'no other'}")
        if package == "modules" and relative(path) != "hosts/webui.py":
            wrong.append(f"{relative(path)}:{line} imports {name}: only hosts/webui.py imports the WebUI")
    return wrong


def test_no_package_hides_one_of_its_modules_behind_another_name() -> None:
    """``import package.name as module`` would give the other thing."""
    for path in (path for path in SOURCES if path.name == "__init__.py"):
        modules = {beside.stem for beside in path.parent.glob("*.py")}
        names: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names |= {alias.asname or alias.name for alias in node.names}
        assert not names & modules, f"{relative(path)}: {sorted(names & modules)}"


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40
    arrows = {(room_of(module_name(path)), name) for path in SOURCES for _, name in imported(path)}
    assert ("training", "training_pro.data.collate") in arrows  # from ..data.collate import Collator
    assert ("hosts", "training_pro.train_utils") in arrows  # from .. import train_utils
    assert ("hosts", "modules") in arrows  # inside a function
    assert ("data", "training_pro") in arrows  # from .. import ROOT


def test_every_file_is_in_a_room() -> None:
    assert {room_of(module_name(path)) for path in SOURCES} == set(MAY_IMPORT)


def test_no_arrow_points_the_wrong_way() -> None:
    assert [wrong for path in SOURCES for wrong in wrong_arrows(path)] == []


@pytest.mark.parametrize(
    ("place", "text", "found"),
    [
        ("ui/x.py", "def f():\n    from ..training import job", "ui/x.py:2 imports training.job"),
        ("ui/x.py", "from ..training.job import run_job", "ui/x.py:1 imports training.job"),
        ("ui/x.py", "import training_pro.training.job", "ui/x.py:1 imports training.job"),
        ("chunking.py", "from .config import RunConfig", "chunking.py:1 imports config"),
        ("data/__init__.py", "from ..runs import store", "data/__init__.py:1 imports runs.store"),
        ("training/x.py", "if TYPE_CHECKING:\n    from ..ui.tab import Tab", "training/x.py:2 imports ui.tab"),
        ("hosts/standalone.py", "from modules import shared", "hosts/standalone.py:1 imports modules"),
        ("hosts/x.py", "from ..training.job import run_job", None),
        ("data/x.py", "from .chat import IGNORE\nfrom .. import ROOT", None),
        ("hosts/webui.py", "import modules.shared", None),
    ],
)
def test_a_wrong_arrow_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, text: str, found: str | None
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    wrong = wrong_arrows(path)
    assert [line.split(": ")[0] for line in wrong] == ([found] if found else [])


def test_the_set_up_needs_the_standard_library_only() -> None:
    for place in STDLIB_ONLY:
        names = {name for _, name in imported(ROOT / place)}
        assert names, place
        foreign = {name for name in names if name.split(".")[0] not in {*sys.stdlib_module_names, PACKAGE}}
        assert foreign == set(), place
    setup = {name for place in STDLIB_ONLY if "setup" in place for _, name in imported(ROOT / place) if name.startswith(PACKAGE)}
    assert {name.split(".")[-1][:6] for name in setup} == {"setup_"}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, json; sys.path.append({str(ROOT / 'import_root')!r}); import {PACKAGE}.{module}\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules] + ['numpy'] * ('numpy' in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == (["numpy"] if module in ("hybrid_batching", "chunking") else [])


# --- lengths -------------------------------------------------------------------------------------------------------------------


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Place (``file.py:Class.name``), node and whether it is a method, of every function of a file."""

    def walk(node: ast.AST, prefix: str, in_class: bool) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}{child.name}", child, in_class
                yield from walk(child, f"{prefix}{child.name}.", False)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.", True)
            else:
                yield from walk(child, prefix, in_class)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), f"{relative(path)}:", False)


def num_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, is_method: bool) -> int:
    """Parameters that a caller gives: without self or cls, ``*args`` and ``**kwargs`` count one each."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    bound = is_method and bool(given) and given[0].arg in ("self", "cls")
    return len(given) - bound + (node.args.vararg is not None) + (node.args.kwarg is not None)


def test_files_are_at_most_500_lines() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {place: length for place, length in lengths.items() if length > MAX_LINES and place not in LONG_FILES} == {}
    assert [place for place in LONG_FILES if lengths.get(place, 0) <= MAX_LINES] == []


def test_functions_are_at_most_70_lines() -> None:
    lengths = {place: (node.end_lineno or 0) - node.lineno + 1 for path in python_files() for place, node, _ in functions(path)}
    assert max(lengths.values()) > 20
    long = {place: length for place, length in lengths.items() if length > MAX_FUNCTION_LINES}
    assert {place: length for place, length in long.items() if place not in LONG_FUNCTIONS} == {}
    assert [place for place in LONG_FUNCTIONS if place not in long] == []


def test_functions_take_at_most_8_parameters() -> None:
    counts = {place: num_parameters(node, method) for path in SOURCES for place, node, method in functions(path)}
    assert max(counts.values()) > 4
    many = {place: count for place, count in counts.items() if count > MAX_PARAMETERS}
    assert {place: count for place, count in many.items() if place not in MANY_PARAMETERS} == {}
    assert [place for place in MANY_PARAMETERS if place not in many] == []


def test_test_modules_have_names_of_their_own() -> None:
    # pytest imports them by name alone, and stops at the second of a name
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in set(names) if names.count(name) > 1] == []
