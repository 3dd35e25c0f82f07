"""Words above the pages of the tab: what may not be changed here, and what strangers could do. Pure functions of texts."""

from __future__ import annotations

from html import escape

from .host import Host

# what a page without a login lets anybody do
STRANGERS = "Whoever opens it can start, stop and queue trainings, delete runs with their adapters, and read files of this machine as data."


def notices_html(host: Host) -> str:
    """The notices of a host in ``#tph-notices``; nothing to see where there are none."""
    notices = [("exposure", host.exposure()), ("read-only", host.read_only())]
    cards = "".join(
        f'<div class="tph-card tph-warn" data-notice="{kind}" role="note"><p>{escape(text)}</p></div>'
        for kind, text in notices
        if text
    )
    return f'<div id="tph-notices">{cards}</div>'
