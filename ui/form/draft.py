"""What was typed into the form, kept in the browser: after a reload it is there again.

Each browser keeps its own (localStorage), so a second one overwrites nothing, a restarted WebUI forgets nothing, and the server holds no
state of pages. It works alike on gradio 4 and 6, as plain scripts of events; gradio's own BrowserState is new in 5.

Guarantee: a value that does not fit its field any more (another version, another place) is left out, never shown as something else.
Price: the pages of one browser share one draft, the last word wins; without localStorage a reload shows the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...config.field import SettingInfo
from ..fields import widget_of

_STORE = "tph-form"
_PLACE = "@adapters"  # the adapters' folder that the draft was made for
_WAIT = 300  # milliseconds after the last key before the marks at the fields are looked at again

# gives the draft to the server when a page opens
READ_JS = f'() => {{ try {{ return [localStorage.getItem("{_STORE}") || ""] }} catch (error) {{ return [""] }} }}'

# from now on changes of fields are kept; before, they were those of the page's beginning
RESTORED_JS = "() => { window.tphRestored = true; return [] }"

# puts problems that were looked for again into the box; the answer may come late, so only marks that still stand are replaced, and a
# word beside them never
LOOKED_JS = """(looked, box) => {
    if (!looked || !/data-first=/.test(box)) return [box];
    return [looked.replace(" data-first=", " data-again data-first=") + (/<p id="tph-note".*$/s.exec(box)?.[0] || "")];
}"""

# brings the first field that is marked into sight, once its group is open
SHOW_FIRST_JS = """() => {
    let patience = 40;
    const look = () => {
        const field = document.getElementById(document.querySelector("#tph-problems")?.dataset.first);
        if (field && field.offsetParent) field.scrollIntoView({ block: "center", behavior: "smooth" });
        else if (patience-- > 0) setTimeout(look, 50);
    };
    look();
    return [];
}"""


def keep_js(infos: Sequence[SettingInfo], adapters_dir: str) -> str:
    """A script that keeps the fields' values, and has the marks looked at again if there are any.

    Args:
        infos: settings of the fields, in the order of the values that the script gets.
        adapters_dir: where adapters go unless the user says otherwise.
    """
    names = json.dumps([info.field for info in infos]).replace("<", "\\u003c")
    return f"""(...values) => {{
        if (!window.tphRestored) return [];
        const names = {names};
        const draft = Object.fromEntries(names.map((name, place) => [name, values[place]]));
        draft["{_PLACE}"] = {json.dumps(adapters_dir)};
        try {{ localStorage.setItem("{_STORE}", JSON.stringify(draft)) }} catch (error) {{ }}
        clearTimeout(window.tphLookAgain);
        const marks = () => document.querySelector("#tph-problems[data-first]");
        const before = marks()?.outerHTML;
        window.tphLookAgain = setTimeout(() => {{
            // not the marks that a button has set since: they are newer than what was typed
            const now = marks();
            if (now && (now.outerHTML === before || "again" in now.dataset)) document.querySelector("#tph-recheck").click();
        }}, {_WAIT});
        return [];
    }}"""


def read_draft(infos: Sequence[SettingInfo], text: str | None, adapters_dir: str) -> dict[str, Any]:
    """Values of fields from a draft: dotted name -> value; nothing from a text that is none.

    Args:
        infos: settings of the fields.
        text: what :func:`keep_js` kept.
        adapters_dir: as there; the folder of another place is not taken over.
    """
    try:
        draft = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(draft, dict):
        return {}
    if draft.get(_PLACE) != adapters_dir:
        draft.pop("run.adapters_dir", None)
    return {info.field: draft[info.field] for info in infos if info.field in draft and _fits(info, draft[info.field])}


def _fits(info: SettingInfo, value: Any) -> bool:
    """Whether a field of this kind can show the value."""
    kind = widget_of(info)
    if kind == "choice":
        return value in info.choices
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "targets":
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if kind == "number":
        return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    return isinstance(value, str)
