"""A field for one value, whose kind is read from an annotation; what is wrong is said beside it as it is typed."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Hashable
from typing import Any, Literal, Union, get_args, get_origin

import ipywidgets as w  # type: ignore[import-untyped]

from handoff_lab.widgets.node_row import message
from handoff_lab.widgets.preview import short_repr

EMPTY: Any = inspect.Parameter.empty


class ValueField:
    """A control and a note for one input.

    Parameters
    ----------
    id
        Of the input; shown before the control.
    annotation, default
        Of the parameter that takes it; ``EMPTY`` where there is none.
    changed
        Called after each change.
    least
        What a number must be at least.
    """

    def __init__(
        self,
        id: Hashable,
        annotation: Any,
        default: Any,
        changed: Callable[[], object],
        least: float | None = None,
    ) -> None:
        self.id = id
        self._changed = changed
        self._least = least
        self._held: Any = EMPTY  # a value from code that cannot be typed
        kind, self._optional = _without_none(annotation)
        self._read, hint = _READERS.get(kind, (_literal, "a Python literal, such as [1, 2]"))
        self.control = _control(kind, hint)
        self.error = ""
        self.note = w.HTML(layout={"max_width": "28em"})
        label = w.Label(str(id), layout={"width": "10em"})
        self.row = w.HBox([label, self.control, self.note])
        self.row.add_class("hl-field")
        self.control.observe(self._typed, "value")
        if default is not EMPTY:
            self.set(default)

    def value(self) -> Any:
        """The value.

        Raises
        ------
        ValueError
            What is typed is none.
        """
        if self._held is not EMPTY:
            return self._held
        given = self.control.value
        if not isinstance(self.control, w.Text):
            return given
        if self._optional and given.strip() in ("", "None"):
            return None
        value = self._read(given)
        if self._least is not None and value < self._least:
            raise ValueError(f"it must be at least {self._least:g}")
        return value

    def set(self, value: Any) -> None:
        """Put a value in; one that cannot be typed is held as it is, and the field only shows it."""
        self._held = EMPTY
        self.control.disabled = False
        if not isinstance(self.control, w.Text):
            self.control.value = value
            return
        text = value if isinstance(value, str) else repr(value)
        self.control.value = text
        try:
            same = type(self.value()) is type(value) and bool(self.value() == value)
        except Exception:  # it cannot be read back, or compared
            same = False
        if not same:
            self._held = value
            self.control.value, self.control.disabled = short_repr(value), True
        self.check()

    def check(self, needed: bool = False) -> bool:
        """Whether there is a value; says beside the field what is wrong. An empty field is, if it is ``needed``."""
        self.error = ""
        try:
            self.value()
        except ValueError as error:
            if needed or self.control.value:
                self.error = str(error) if self.control.value else f"it is needed: {self.control.placeholder}"
        self.note.value = message(self.error, error=True)
        return not self.error

    def _typed(self, change: object) -> None:
        self.check()
        self._changed()


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """What is left of ``X | None``, and whether None was there."""
    if get_origin(annotation) in (Union, types.UnionType):
        others = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        if len(others) < len(get_args(annotation)):
            return (others[0] if len(others) == 1 else EMPTY), True
    return annotation, False


def _control(kind: Any, hint: str) -> w.ValueWidget:
    if kind is bool:
        return w.Checkbox(value=False, indent=False)
    if get_origin(kind) is Literal:
        return w.Dropdown(options=get_args(kind))
    return w.Text(placeholder=hint, continuous_update=True)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{text!r} is not a Python literal, such as [1, 2] or 'text'") from None


def _literal_or_text(text: str) -> Any:
    """As the command line reads ``--set``; nothing typed is nothing given."""
    if not text:
        raise ValueError("nothing is given")
    try:
        return _literal(text)
    except ValueError:
        return text


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
    str: (str, "text"),
    Any: (_literal_or_text, "a Python literal, or text"),
    EMPTY: (_literal_or_text, "a Python literal, or text"),
}
