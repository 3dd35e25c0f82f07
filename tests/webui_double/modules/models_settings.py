"""Instruction templates by name."""

import yaml
from modules import shared, utils


def load_template_by_name(name):
    """The Jinja text of one template of user_data/instruction-templates, or ''."""
    folder = shared.user_data_dir / "instruction-templates"
    paths = [folder / f"{name}{extension}" for extension in utils.TEMPLATE_EXTENSIONS]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return ""
    contents = path.read_text(encoding="utf-8")
    if path.suffix in utils.JINJA_EXTENSIONS:
        return contents
    try:
        return (yaml.safe_load(contents) or {}).get("instruction_template", "")
    except yaml.YAMLError:
        return contents
