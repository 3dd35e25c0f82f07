"""Of the WebUI's own training only the check of a name, with which each of its trainings begins."""

import os


def clean_path(base_path: str, path: str):
    """The path without steps upwards, below a folder if one is named."""
    path = path.replace("\\", "/").replace("..", "_")
    return path if base_path is None else f"{os.path.abspath(base_path)}/{path}"
