"""Tracebacks cut to the frames that the user wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator

from handoff_lab.widgets.source_code import cell_of, is_library

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+)(?P<rest>.*)')


def cut(traceback: str) -> str:
    """The user's own frames and the error; all frames where none of them is the user's.

    A traceback with several parts ("During handling of ...") is cut part by part; one of an exception group, whose
    frames stand in a tree, is left as it is.

    Examples
    --------
    >>> print(cut('''Traceback (most recent call last):
    ...   File "<frozen runpy>", line 88, in _run_code
    ...   File "/home/ada/pipeline.py", line 3, in load
    ...     return int(text)
    ... ValueError: invalid literal'''))
    Traceback (most recent call last):
      File "/home/ada/pipeline.py", line 3, in load
        return int(text)
    ValueError: invalid literal
    """
    blocks = list(_blocks(traceback.splitlines()))
    if not any(frame is not None and not is_library(frame["file"]) for frame, _ in blocks):
        return traceback.rstrip("\n")
    return "\n".join(
        line
        for frame, lines in blocks
        if frame is None or not is_library(frame["file"])
        for line in ([_named(frame), *lines[1:]] if frame else lines)
    )


def _blocks(lines: list[str]) -> Iterator[tuple[re.Match[str] | None, list[str]]]:
    """A frame with the lines that belong to it; any other line is a block of its own.

    Lines of a message may look like anything: frames end with the first line that is not indented.
    """
    frame: tuple[re.Match[str], list[str]] | None = None
    inside = False  # below "Traceback (most recent call last):"
    for line in lines:
        inside = line.startswith("Traceback (") or (inside and line.startswith("  "))
        head = _FRAME.match(line) if inside else None
        if frame is not None and inside and head is None and line.startswith("  "):
            frame[1].append(line)
            continue
        if frame is not None:
            yield frame
        frame = None if head is None else (head, [line])
        if head is None:
            yield None, [line]
    if frame is not None:
        yield frame


def _named(frame: re.Match[str]) -> str:
    """The line of a frame; a cell is called as the notebook calls it."""
    cell = cell_of(frame["file"])
    return frame.string if cell is None else f"  {cell}, line {frame['line']}{frame['rest']}"
