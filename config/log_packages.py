"""Where detailed logs may go, and which package that takes. Light: nothing is imported to find out."""

from __future__ import annotations

from importlib.util import find_spec

# choice on the form -> package
LOG_PACKAGES = {"none": "", "tensorboard": "tensorboard", "wandb": "wandb"}


def missing_package(choice: str) -> str:
    """The package that a choice needs and that is not installed; empty if nothing is missing."""
    package = LOG_PACKAGES[choice]
    if not package:
        return ""
    found = find_spec(package)
    # a mere folder of that name, as wandb leaves one where it runs, has no origin
    return package if found is None or found.origin is None else ""
