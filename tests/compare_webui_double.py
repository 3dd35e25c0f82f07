"""Does the double of the WebUI's modules still look like the WebUI?

    python tests/compare_webui_double.py --webui PATH

reads both with `ast` (nothing is imported, nothing of the WebUI needs to be installed) and prints one line per difference.
Everything that the double has must exist in the WebUI with the same look; what only the WebUI has is no difference, the
double is meant to be small. Compared are

- public functions, classes and methods: parameters with their kinds and defaults, and whether it is a generator;
- public module attributes: that they exist; plain values (None, "None", [], False, ...) must be equal;
- entries of `settings` in modules/shared.py: the keys exist and plain values are equal, unless the double shortens a text to "";
- command line flags: option strings, type, action, nargs and default;
- what decides how things are found and how they fail: the first argument of the calls that import scripts and list files, the
  types that a function catches and whether it raises them again.

Exit code: 0 no difference, 1 differences, 2 no WebUI at that path.
"""

import argparse
import ast
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOUBLE = Path(__file__).resolve().parent / "webui_double" / "modules"
WATCHED_CALLS = {"spec_from_file_location", "import_module", "glob", "endswith"}
FLAG_PARTS = ("type", "action", "nargs", "default")
COMPUTED = "a value that is computed"


def compare(webui: Path, double: Path = DOUBLE) -> list[str]:
    """Every difference between the double's modules and the WebUI's, as 'file: what'.

    Raises:
        FileNotFoundError: The path holds no WebUI.
    """
    if not (webui / "modules").is_dir():
        raise FileNotFoundError(f"{webui} has no folder 'modules': name the folder of a text-generation-webui checkout")
    found = []
    for path in sorted(double.glob("*.py")):
        real = webui / "modules" / path.name
        if not real.is_file():
            found.append(f"modules/{path.name}: the WebUI has no such file")
            continue
        ours, theirs = _parse(path), _parse(real)
        found += [f"modules/{path.name}: {difference}" for difference in compare_module(ours, theirs)]
    return found


def compare_module(ours: ast.Module, theirs: ast.Module) -> Iterator[str]:
    """The differences of one module."""
    yield from compare_definitions(ours, theirs, "")
    yield from compare_attributes(ours, theirs)
    yield from compare_settings(ours, theirs)
    yield from compare_flags(ours, theirs)
    yield from compare_calls(ours, theirs)


def compare_definitions(ours: Any, theirs: Any, prefix: str) -> Iterator[str]:
    """Functions and classes by name; classes method by method; private ones of the double are its own affair."""
    real = definitions(theirs)
    for name, node in definitions(ours).items():
        if name.startswith("_") and name != "__init__":
            continue
        other = real.get(name)
        if type(other) is not type(node):
            yield f"{prefix}{name}: the WebUI has no such {'class' if isinstance(node, ast.ClassDef) else 'function'}"
        elif isinstance(node, ast.ClassDef):
            yield from compare_definitions(node, other, f"{name}.")
        else:
            yield from compare_functions(node, other, prefix + name)


def compare_functions(ours: Any, theirs: Any, name: str) -> Iterator[str]:
    """Signature, and the handlers if the double catches anything."""
    if signature(ours) != signature(theirs):
        yield f"{name}: double {signature(ours)}, WebUI {signature(theirs)}"
    if handlers(ours) and handlers(ours) != handlers(theirs):
        yield f"{name}: double catches {handlers(ours)}, WebUI {handlers(theirs)}"


def definitions(tree: Any) -> dict[str, Any]:
    """Functions and classes directly in a module or class."""
    return {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


def signature(function: Any) -> str:
    """Decorators, parameters without annotations, and whether it yields."""
    parameters = copy.deepcopy(function.args)
    for node in ast.walk(parameters):
        if isinstance(node, ast.arg):
            node.annotation = None
    decorators = "".join(f"@{ast.unparse(decorator)} " for decorator in function.decorator_list)
    return f"{decorators}({ast.unparse(parameters)}){' generator' if _yields(function) else ''}"


def _yields(function: Any) -> bool:
    """Whether calling it gives a generator; functions inside it do not count."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return False


def handlers(function: Any) -> list[str]:
    """The types that a function catches, in order, marked where it raises again."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)]
    again = [any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node)) for node in found]
    return [
        f"{ast.unparse(node.type) if node.type else 'all'}{', raises' * raises}"
        for node, raises in zip(found, again, strict=True)
    ]


def compare_attributes(ours: ast.Module, theirs: ast.Module) -> Iterator[str]:
    """Public names assigned at the top of a module; plain values must be equal. Dicts are looked at elsewhere."""
    real = attributes(theirs)
    for name, value in attributes(ours).items():
        if name.startswith("_"):
            continue
        if name not in real:
            yield f"{name}: the WebUI has no such attribute"
        elif not isinstance(value, ast.Dict) and plain(value) != plain(real[name]):
            yield f"{name}: double {plain(value)!r}, WebUI {plain(real[name])!r}"


def attributes(tree: ast.Module) -> dict[str, ast.expr]:
    """Name -> value of the last assignment to it at the top of a module."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({target.id: node.value for target in targets if isinstance(target, ast.Name)})
    return found


def plain(value: ast.expr | None) -> Any:
    """The value of a literal; one and the same text for everything that is computed."""
    try:
        return ast.literal_eval(value) if value is not None else None
    except ValueError:
        return COMPUTED


def compare_settings(ours: ast.Module, theirs: ast.Module) -> Iterator[str]:
    """Entries of `settings`; the double may give "" for a long text."""
    real = _dict_of(theirs, "settings")
    for key, value in _dict_of(ours, "settings").items():
        if key not in real:
            yield f"settings[{key!r}]: the WebUI has no such setting"
        elif plain(value) != plain(real[key]) and not (plain(value) == "" and isinstance(plain(real[key]), str)):
            yield f"settings[{key!r}]: double {plain(value)!r}, WebUI {plain(real[key])!r}"


def _dict_of(tree: ast.Module, name: str) -> dict[Any, ast.expr]:
    value = attributes(tree).get(name)
    return {plain(key): item for key, item in zip(value.keys, value.values, strict=True)} if isinstance(value, ast.Dict) else {}


def compare_flags(ours: ast.Module, theirs: ast.Module) -> Iterator[str]:
    """Command line flags by their first spelling."""
    real = flags(theirs)
    for name, look in flags(ours).items():
        if name not in real:
            yield f"flag {name}: the WebUI has no such flag"
        elif look != real[name]:
            yield f"flag {name}: double {look}, WebUI {real[name]}"


def flags(tree: ast.Module) -> dict[str, dict[str, str]]:
    """First option string -> all option strings and the parts that decide the value, as source text."""
    found = {}
    for call in _calls(tree, {"add_argument"}):
        spellings = [plain(argument) for argument in call.args]
        parts = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg in FLAG_PARTS}
        found[spellings[0]] = {
            "spellings": " ".join(spellings),
            **{part: parts.get(part, "") for part in FLAG_PARTS},
        }
    return found


def compare_calls(ours: ast.Module, theirs: ast.Module) -> Iterator[str]:
    """What the watched calls are given first: names of modules, patterns and endings of files."""
    real = {_first_argument(call) for call in _calls(theirs, WATCHED_CALLS)}
    for call in _calls(ours, WATCHED_CALLS):
        if _first_argument(call) not in real:
            yield f"{_first_argument(call)}: the WebUI has no such call"


def _first_argument(call: ast.Call) -> str:
    function = call.func
    return f"{function.attr if isinstance(function, ast.Attribute) else ''}({ast.unparse(call.args[0])})"


def _calls(tree: ast.Module, names: set[str]) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in names]


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def main() -> int:
    """Print the differences; the exit code says whether there are any."""
    parser = argparse.ArgumentParser(description="Compare the double of the WebUI's modules with a WebUI checkout.")
    parser.add_argument("--webui", type=Path, required=True, help="folder of a text-generation-webui checkout")
    parser.add_argument("--double", type=Path, default=DOUBLE, help="folder of the double's modules")
    arguments = parser.parse_args()
    try:
        differences = compare(arguments.webui, arguments.double)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(differences) or f"no difference in {len(list(arguments.double.glob('*.py')))} modules")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
