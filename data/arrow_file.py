"""An Arrow stream on disk that is whole or visibly not: its end is written only if nothing went wrong.

Guarantee: the file is closed whatever happens. Price: none beside Arrow's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class ArrowFile:
    """A file of record batches, being written; use as a context.

    Args:
        path: is written anew.
        schema: of its columns.
        flush: writes what still waits; called at the end, if nothing went wrong.
    """

    def __init__(self, path: Path, schema: Any, flush: Callable[[], None]) -> None:
        import pyarrow as pa

        self.schema = schema
        self._file = path.open("wb")
        self._stream = pa.ipc.new_stream(self._file, schema)
        self._flush = flush

    def write(self, columns: list[Any]) -> None:
        """Add a record batch; columns in the schema's order."""
        import pyarrow as pa

        self._stream.write_batch(pa.record_batch(columns, schema=self.schema))

    def close(self, is_whole: bool) -> None:
        """Write what waits and the end of the stream, or leave it cut off."""
        try:
            if is_whole:
                self._flush()
                self._stream.close()
        finally:
            self._file.close()
