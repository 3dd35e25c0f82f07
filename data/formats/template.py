"""Training PRO's format files: a row's fields are written into a text template.

A format file is JSON and maps field names to a template, for example
`{"instruction,output": "User: %instruction%\\nAssistant: %output%"}`. The entry whose fields are exactly the row's
non-empty fields is used; fields that no entry names are left aside and counted.

Guarantee: a `%name%` inside the user's own text is not replaced again (the old extension did that).
Price: the result is plain text, so every token of it is trained, also the question.
"""

import json
import re
from pathlib import Path
from typing import Any

from .messages import BadRow, Content, as_text, kind_of, listed, unused_note

Template = dict[frozenset[str], str]
_FIELD = re.compile(r"%([^%\s]+)%")


def read_format_file(path: str | Path) -> Template:
    """Reads a format file.

    Args:
        path: JSON file of comma-joined field names -> template.

    Raises:
        ValueError: no such file, not JSON, not an object of texts, or a template with a field that its entry lacks.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(
            f"Format file: {path} cannot be read ({error.strerror or error}). Choose a file of formats/*.json."
        ) from error
    except ValueError as error:
        raise ValueError(f"Format file: {path} is not JSON in UTF-8 ({error}). Mend it, or choose another file.") from error
    if not isinstance(entries, dict) or not entries or not all(isinstance(text, str) for text in entries.values()):
        raise ValueError(
            f'Format file: {path} does not map field names to texts. Write it like {{"instruction,output": "%instruction% %output%"}}.'
        )
    template = {frozenset(name.strip() for name in names.split(",")): text for names, text in entries.items()}
    _require_own_fields(template, path)
    return template


def _require_own_fields(template: Template, path: str | Path) -> None:
    known = frozenset().union(*template)
    for fields, text in template.items():
        foreign = sorted((set(_FIELD.findall(text)) & known) - fields)
        if foreign:
            entry = ",".join(sorted(fields))
            raise ValueError(
                f"Format file: {path} uses %{foreign[0]}% in the entry '{entry}', which has no such field. "
                f"Add '{foreign[0]}' to the entry's name, or take it out of the template."
            )


def row_fields(row: dict[str, Any], template: Template) -> dict[str, str]:
    """The row's non-empty fields among those that the format file names, as text."""
    known = frozenset().union(*template)
    fields = {name: as_text(row[name], f"'{name}'") for name in row if name in known}
    return {name: text for name, text in fields.items() if text.strip()}


def fits_template(row: object, template: Template) -> bool:
    """Whether one entry has exactly the row's non-empty fields."""
    try:
        return isinstance(row, dict) and frozenset(row_fields(row, template)) in template
    except BadRow:
        return False


def fill_template(row: object, template: Template) -> Content:
    """Writes the row's fields into the entry that has exactly these fields.

    >>> fill_template({"a": "100 %b%", "b": "x"}, {frozenset("ab"): "%a%|%b%"}).text
    '100 %b%|x'

    Raises:
        BadRow: no object, or no entry has these fields.
    """
    if not isinstance(row, dict):
        raise BadRow(f"{kind_of(row)} instead of an object")
    fields = row_fields(row, template)
    text = template.get(frozenset(fields))
    if text is None:
        entries = " / ".join(",".join(sorted(entry)) for entry in template)
        raise BadRow(f"no entry of the format file has the fields {listed(fields)}; entries: {entries}")
    written = _FIELD.sub(lambda found: fields.get(found[1], found[0]), text)
    return Content(text=written, notes=unused_note(row, frozenset().union(*template)))
