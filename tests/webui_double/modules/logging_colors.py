"""The WebUI's logger; its colours are left out."""

import logging

logger = logging.getLogger("textgen")


def setup_logging():
    """Let records of every level through, to whatever handlers the test installs."""
    logger.setLevel(logging.DEBUG)


setup_logging()
