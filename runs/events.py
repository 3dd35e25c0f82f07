"""The run's diary: events.jsonl, one JSON object a line, appended and flushed.

Page, graph, diagnosis and resume read the diary and nothing else. Kinds of events and their fields (times in seconds):

    run_started   name, pid, process_started, model, versions, resumed_from_step
    stage         stage, detail, share     loading / preparing / checking / training / saving ...; share: 0 to 1, while data are read
    prepared      report                   what preparation found (see data.report)
    plan          num_steps, num_epochs, steps_per_epoch, num_batches, num_samples, accumulation, batch_size, ...
    phase         step, epoch, phase, stage, cause, decided_at (step; None = planned), before, gradual (epochs): begins after step
    message       level, text              a warning or a word to the user
    step          step, epoch, loss, smoothed_loss, lr, lr_scale, grad_norm, tokens, trained_tokens, padding (tokens), tokens_per_second,
                  seconds, time_left, memory (bytes, about once a second)
    evaluation    step (0 = before the first), epoch, loss, trained_tokens
    understanding step, epoch, loss, gains (context, order, distance: mean, error, num_replies, num_tokens, num_conversations, change,
                  change_error; nats per reply token), sample (identity of the replies), seconds; the first also saved (per reply)
    phase_table   rows                     the phases in numbers (see evaluation.phase_table), at the end
    diagnosis     findings (kind, words, advice)   what the curves show (see evaluation.diagnosis), at the end
    checkpoint    step, epoch, folder, cause ("user" | "stop" | "end" | "epoch" | "steps" | "minutes" | "fall" | "best"), loss, eval_loss
    sample        when ("before" | "step" | "after"), step, prompt, answer
    control       name, value, step        what the user asked for while it ran, and the steps done when it took effect
    paused        step                     the run waits between two steps
    unpaused      step, seconds            it goes on, after so long
    run_ended     status ("finished" | "interrupted" | "failed" | "discarded"), message, remedy, adapter, step, loss, seconds
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

_BATCH = 1000  # lines that are parsed at once


def _plain(value: Any) -> Any:
    """JSON has no NaN: such numbers become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


class EventWriter:
    """Appends events to a file; safe from several threads. Does nothing with ``path=None`` (ranks other than 0)."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8") if path else None
        if path and self._file and _ends_within_a_line(path):
            self._file.write("\n")

    def __call__(self, event: str, **fields: Any) -> None:
        """Append one event with the present time."""
        if self._file is None:
            return
        line = json.dumps({"t": round(time.time(), 3), "event": event, **_plain(fields)}, ensure_ascii=False, default=str)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; later events are dropped."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _ends_within_a_line(path: Path) -> bool:
    """Whether a crash has left a part of a line, to which the next event must not be added."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_events(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Events from a byte offset on, and the offset to continue from.

    A last line that is still being written is left for the next call; a damaged line is skipped (a crash can leave one).
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return _parse(data[:end]), offset + end


def _parse(data: bytes) -> list[dict[str, Any]]:
    lines, events = data.splitlines(), []
    for begin in range(0, len(lines), _BATCH):
        found = _parse_lines(lines[begin : begin + _BATCH])
        events += [event for event in found if isinstance(event, dict) and "event" in event]
    return events


def _parse_lines(lines: list[bytes]) -> list[Any]:
    """The lines as objects; a damaged one is left out. Together they share the names of their fields, which takes less memory."""
    try:
        found = json.loads(b"[" + b",".join(lines) + b"]")
        if len(found) == len(lines):
            return list(found)
    except ValueError:
        pass
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
