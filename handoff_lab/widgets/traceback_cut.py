"""Tracebacks cut to the frames that the user wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from handoff_lab.widgets.source_code import cell_of, is_library, is_own

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+)(?P<rest>.*)')
_HEAD: Final = "Traceback ("
_LINKS: Final = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)

_Block: TypeAlias = tuple[re.Match[str] | None, list[str]]


def cut(traceback: str) -> str:
    """The user's own frames and the error; all frames but handoff_lab's where none of them is the user's.

    Of chained exceptions ("During handling of ...") those without a frame of the user are left out, but for the
    message of the last. A traceback of an exception group, whose frames stand in a tree, is left as it is.

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
    parts = [(link, list(_blocks(lines))) for link, lines in _parts(traceback.rstrip("\n").splitlines())]
    by_user = [any(frame is not None and not is_library(frame["file"]) for frame, _ in part) for _, part in parts]
    shown: list[str] = []
    for i, (link, blocks) in enumerate(parts):
        if any(by_user) and not by_user[i] and i + 1 < len(parts):
            continue
        if shown and link is not None:
            shown += ["", link, ""]
        shown += _lines(blocks, is_library if any(by_user) else is_own)
    return "\n".join(shown)


def _parts(lines: list[str]) -> Iterator[tuple[str | None, list[str]]]:
    """The exceptions of a chain, each with the line that links it to the one before."""
    link, begin = None, 0
    for i in range(1, len(lines) - 2):
        if lines[i] in _LINKS and lines[i - 1] == lines[i + 1] == "" and lines[i + 2].startswith(_HEAD):
            yield link, lines[begin : i - 1]
            link, begin = lines[i], i + 2
    yield link, lines[begin:]


def _lines(blocks: list[_Block], hidden: Callable[[str], bool]) -> list[str]:
    """An exception without its hidden frames; only its message where no frame is left."""
    kept = [(frame, lines) for frame, lines in blocks if frame is None or not hidden(frame["file"])]
    if len(kept) < len(blocks) and all(frame is None for frame, _ in kept):
        kept = [(frame, lines) for frame, lines in kept if not lines[0].startswith(_HEAD)]
    return [line for frame, lines in kept for line in ([_named(frame), *lines[1:]] if frame else lines)]


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """A frame with the lines that belong to it; any other line is a block of its own.

    Lines of a message may look like anything: frames end with the first line that is not indented.
    """
    frame: tuple[re.Match[str], list[str]] | None = None
    inside = False  # below "Traceback (most recent call last):"
    for line in lines:
        inside = line.startswith(_HEAD) or (inside and line.startswith("  "))
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
