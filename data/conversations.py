"""The conversations that samples were made of, as their files had them, for whoever renders them anew.

Guarantee: messages and tools come back equal. Price: their JSON on disk, about 10 microseconds a conversation to write; nothing in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .arrow_file import ArrowFile
from .sources import Row

_FILE = "conversations.arrow"
_AT_ONCE = 1024


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([("group", pa.int32()), ("json", pa.large_string())])


class ConversationWriter:
    """Writes conversations into a folder; use as a context."""

    def __init__(self, folder: Path) -> None:
        self._file = ArrowFile(folder / _FILE, _schema(), self._flush)
        self._groups: list[int] = []
        self._texts: list[str] = []

    def __enter__(self) -> ConversationWriter:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self._file.close(is_whole=kind is None)

    def add(self, group: int, row: Row) -> None:
        """Add the conversation of a row; groups rise."""
        content: dict[str, Any] = {"messages": row.messages, **({"tools": row.tools} if row.tools else {})}
        self._groups.append(group)
        self._texts.append(json.dumps(content))  # ASCII: damaged characters of a file survive
        if len(self._groups) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._groups:
            self._file.write([pa.array(self._groups, type=pa.int32()), pa.array(self._texts, type=pa.large_string())])
            self._groups, self._texts = [], []


class Conversations:
    """Those of a folder, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._table: Any = None
        self._groups = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        self._open()
        return len(self._groups)

    def __getitem__(self, group: int) -> dict[str, Any]:
        """``messages`` and ``tools`` (None without) of a group.

        Raises:
            KeyError: the group is no conversation.
        """
        self._open()
        place = int(np.searchsorted(self._groups, group))
        if place == len(self._groups) or self._groups[place] != group:
            raise KeyError(group)
        found: dict[str, Any] = json.loads(self._table["json"][place].as_py())
        return {"messages": found["messages"], "tools": found.get("tools")}

    def _open(self) -> None:
        if self._table is None:
            import pyarrow as pa

            self._table = pa.ipc.open_stream(pa.memory_map(str(self._path))).read_all()
            self._groups = np.asarray(self._table["group"].to_numpy(), dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_table": None, "_groups": np.zeros(0, dtype=np.int64)}
