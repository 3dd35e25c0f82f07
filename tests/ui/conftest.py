"""The fixtures of browser.py for the tests of this folder."""

from browser import browser, browser_page, open_tab

__all__ = ["browser", "browser_page", "open_tab"]
