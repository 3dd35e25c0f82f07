"""Where user_data lies."""

import sys
from pathlib import Path


def resolve_user_data_dir():
    """The folder named by --user-data-dir, looked up before argparse runs, else ``user_data``."""
    for position, argument in enumerate(sys.argv):
        if argument == "--user-data-dir" and position + 1 < len(sys.argv):
            return Path(sys.argv[position + 1])
        if argument.startswith("--user-data-dir="):
            return Path(argument.split("=", 1)[1])
    return Path("user_data")
