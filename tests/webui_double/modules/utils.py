"""Lists for the drop-downs: models, adapters, data sets, templates, extensions."""

import json
import re
from pathlib import Path

from modules import shared

YAML_EXTENSIONS = (".yaml", ".yml")
JINJA_EXTENSIONS = (".jinja", ".jinja2")
TEMPLATE_EXTENSIONS = JINJA_EXTENSIONS + YAML_EXTENSIONS


def gradio(*keys):
    """The components of shared.gradio under these keys."""
    if len(keys) == 1 and type(keys[0]) in [list, tuple]:
        keys = keys[0]
    return [shared.gradio[key] for key in keys]


def atoi(text):
    """A run of digits as a number, anything else in lower case."""
    return int(text) if text.isdigit() else text.lower()


def natural_keys(text):
    """Sort key under which ``run2`` precedes ``run10``."""
    return [atoi(part) for part in re.split(r"(\d+)", text)]


def check_model_loaded():
    """(True, None), or (False, the message for the user)."""
    if shared.model_name == "None" or shared.model is None:
        return False, "No model is loaded. Please select one in the Model tab."
    return True, None


def resolve_model_path(model_name_or_path, image_model=False):
    """A path as it is, a name as a folder of --model-dir."""
    path = Path(model_name_or_path)
    return path if path.exists() else Path(shared.args.model_dir) / model_name_or_path


def get_available_models():
    """Names of the model folders, sorted naturally."""
    folders = [item.name for item in Path(shared.args.model_dir).iterdir() if item.is_dir()]
    return sorted(folders, key=natural_keys)


def get_available_instruction_templates():
    """Stems of the template files, after "None"."""
    folder = shared.user_data_dir / "instruction-templates"
    found = [item.stem for item in folder.iterdir() if item.suffix in TEMPLATE_EXTENSIONS] if folder.exists() else []
    return ["None"] + sorted(set(found), key=natural_keys)


def get_available_extensions():
    """Folders with a script.py: the user's first, then the WebUI's own that they do not hide."""
    user = {path.parent.name for path in (shared.user_data_dir / "extensions").glob("*/script.py")}
    system = {path.parent.name for path in Path("extensions").glob("*/script.py")} - user
    return sorted(user, key=natural_keys) + sorted(system, key=natural_keys)


def get_available_loras():
    """Every entry of --lora-dir that does not look like a file of a training tab, after "None"."""
    names = [item.name for item in Path(shared.args.lora_dir).glob("*")]
    return ["None"] + sorted([name for name in names if not name.endswith((".txt", "-np", ".pt", ".json"))], key=natural_keys)


def get_datasets(path: str, ext: str):
    """Stems of the data sets of one kind; for "txt" also the folders."""
    found = list(Path(path).glob(f"*.{ext}"))
    if ext == "txt":
        found += [item for item in Path(path).glob("*/") if item.is_dir()]
    return _stems(found)


def get_chat_datasets(path: str):
    """Stems of the JSON files whose first row is a conversation."""
    return _stems(item for item in Path(path).glob("*.json") if _first_keys(item) & {"messages", "conversations"})


def get_text_datasets(path: str):
    """Stems of the JSON files whose first row has a text."""
    return _stems(item for item in Path(path).glob("*.json") if "text" in _first_keys(item))


def _stems(paths):
    stems = {path.stem for path in paths} - {"put-trainer-datasets-here"}
    return ["None"] + sorted(stems, key=natural_keys)


def _first_keys(path):
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return set()
    return set(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], dict) else set()
