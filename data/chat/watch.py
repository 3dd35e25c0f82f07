"""Where each message ends in a rendering, proved by watching the template read the messages.

What it does: renders once with messages that write down when they are read. If the template went through them once, in order, and
had never looked ahead when it asked for message i, then what it had written by then depends on the messages before i only: a
conversation that ends there is rendered to the same text and the template's closing words. Those are constant if the part of the
template behind its loop uses nothing that the loop or the messages could have changed.

Guarantee: `edges` are exactly what rendering every beginning of the conversation would show; None where the argument does not hold
(`loop.last`, `messages|length`, two loops, ...), and then every beginning is really rendered. The text is compared with the official one.
Price: one rendering per conversation, whatever the number of replies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

Message = dict[str, Any]

_LOOKS_AHEAD = {"last", "nextitem", "revindex", "revindex0", "length", "depth", "depth0", "changed", "cycle"}
_FOREIGN = {"messages", "tools", "documents", "loop"}


@dataclass
class _Log:
    """What the template did so far."""

    current: int = 0
    written: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)
    looked_ahead: bool = False

    def reach(self, index: int) -> None:
        """The template asks for a message in its loop."""
        self.marks.append((index, self.written))
        self.current = index

    def read(self, index: int) -> None:
        """The template takes a message by its number."""
        self.looked_ahead = self.looked_ahead or not 0 <= index <= self.current


class _Watched:
    """Messages that write down how they are read; anything but a loop, a number and ``[1:]`` counts as looking ahead."""

    def __init__(self, messages: Sequence[Message], log: _Log, offset: int = 0) -> None:
        self._messages = messages
        self._log = log
        self._offset = offset

    def __iter__(self) -> Iterator[Message]:
        for index in range(self._offset, len(self._messages)):
            self._log.reach(index)
            yield self._messages[index]
        self._log.reach(len(self._messages))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            self._log.read(self._offset + key if key >= 0 else -1)
            return self._messages[self._offset :][key]
        if key == slice(1, None, None) and not self._offset:
            return _Watched(self._messages, self._log, 1)
        self._log.looked_ahead = True
        return self._messages[self._offset :][key]

    def __len__(self) -> int:
        self._log.looked_ahead = True
        return len(self._messages) - self._offset


def edges(compiled: Any, messages: Sequence[Message], values: dict[str, Any], text: str) -> list[int] | None:
    """Characters at which messages begin, and the end of the last one: as many and one more.

    Args:
        compiled: a jinja template for which :func:`is_one_loop` holds.
        messages: as the template gets them.
        values: everything else that it gets.
        text: the official rendering.
    """
    log = _Log()
    pieces = []
    try:
        for piece in compiled.generate(messages=_Watched(messages, log), **values):
            pieces.append(piece)
            log.written += len(piece)
    except Exception:  # whatever a template raises when it is given no list: it is rendered in the ordinary way then
        return None
    first = log.marks[0][0] if log.marks else -1
    once = [index for index, _ in log.marks] == list(range(first, len(messages) + 1))
    if log.looked_ahead or first not in (0, 1) or not once or "".join(pieces) != text:
        return None
    return [0] * first + [written for _, written in log.marks]


@lru_cache(maxsize=16)
def is_one_loop(compiled: Any, source: str) -> bool:
    """Whether a template is one loop with a constant end: the part of the proof that needs no conversation.

    Its last loop stands at the top level and never asks what comes next; ``add_generation_prompt`` is used behind it only; and what is
    behind it uses no messages, no tools and no name that the template itself sets.
    """
    from jinja2 import nodes

    body = compiled.environment.parse(source).body
    loops = [place for place, node in enumerate(body) if isinstance(node, nodes.For)]
    if not loops:
        return False
    ahead, loop, tail = body[: loops[-1]], body[loops[-1]], body[loops[-1] + 1 :]
    set_names = {name.name for node in body for name in node.find_all(nodes.Name) if name.ctx == "store"}
    set_names |= {node.name for part in body for node in part.find_all(nodes.Macro)}
    tail_names = {name.name for node in tail for name in _all(node, nodes.Name)}
    early_names = {name.name for node in [*ahead, loop] for name in _all(node, nodes.Name)}
    return not (_asks_ahead(loop) or tail_names & (_FOREIGN | set_names) or "add_generation_prompt" in early_names)


def _all(node: Any, kind: Any) -> Iterator[Any]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)


def _asks_ahead(node: Any) -> bool:
    """Whether the body of a loop uses ``loop`` for more than what is behind it; loops inside have a ``loop`` of their own."""
    from jinja2 import nodes

    for child in node.iter_child_nodes():
        if isinstance(child, nodes.For):
            if any(_asks_ahead_in(part) for part in (child.iter, *child.else_)):
                return True
        elif _asks_ahead_in(child):
            return True
    return False


def _asks_ahead_in(node: Any) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop":
        return node.attr in _LOOKS_AHEAD
    if isinstance(node, nodes.Name) and node.name == "loop":
        return True  # handed on as a whole, or asked in another way
    return _asks_ahead(node)
