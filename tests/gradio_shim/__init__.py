"""Test-only: lets PyPI's gradio 4.37.2 run beside the WebUI's pins. See gradio_mends.py."""

from .gradio_mends import FOLDER, MENDS, install

__all__ = ["FOLDER", "MENDS", "install"]
