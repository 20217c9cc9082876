"""One node in the cluster widget: what it has, how full it is, and the controls that change that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from html import escape

import ipywidgets as w  # type: ignore[import-untyped]

from handoff_lab._units import format_amount, format_bytes, parse_amounts
from handoff_lab.widgets.protocol import GpuState, NodeState, ResourceState

_BORDER = "1px solid var(--jp-border-color2, var(--vscode-panel-border, #ccc))"
_TRACK = "var(--jp-layout-color2, var(--vscode-editorWidget-background, #eee))"
_QUIET = "var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #666))"
_ERROR = "var(--jp-error-color1, var(--vscode-errorForeground, #b3261e))"
_STRONG = "var(--jp-ui-font-color1, var(--vscode-foreground, #222))"


class CapabilitiesField:
    """A text field for ``cpu=4, gpu=1``, with what is wrong said beside it as it is typed.

    Parameters
    ----------
    changed
        Called after each change, once ``amounts`` and ``error`` are right.
    """

    def __init__(self, text: str, changed: Callable[[], object], optional: bool = False) -> None:
        self._changed = changed
        self._optional = optional
        self.text = w.Text(
            text, placeholder="cpu=2, memory=4GB", continuous_update=True, layout={"width": "16em"},
            tooltip="what the node has: cpu=2, memory=4GB, gpu=1",
        )  # fmt: skip
        self.note = w.HTML(layout={"max_width": "24em"})
        self.amounts: dict[str, float] | None = None
        self.error = ""
        self._read()
        self.text.observe(self._typed, "value")

    def show(self, text: str) -> None:
        """Put ``text`` in, as if it was typed."""
        self.text.value = text

    def _typed(self, change: object) -> None:
        self._read()
        self._changed()

    def _read(self) -> None:
        text = self.text.value.strip()
        self.amounts, self.error = None, ""
        try:
            self.amounts = parse_amounts(text) if text or not self._optional else None
        except ValueError as error:
            self.error = str(error)
        self.note.value = message(self.error, error=True)


class NodeRow(w.VBox):  # type: ignore[misc]
    """The row of a node.

    Parameters
    ----------
    update, remove, log
        What the buttons do: with the new amounts; with whether to drain; and what shows the log.
    """

    def __init__(
        self,
        name: str,
        update: Callable[[Mapping[str, float]], object],
        remove: Callable[[bool], object],
        log: Callable[[], str],
    ) -> None:
        self.name = name
        self._read_log = log
        self._known = ""  # the capabilities as the node says them
        self._busy = False
        self._there = True
        self.head = w.HTML(layout={"min_width": "10em"})
        self.bars = w.HTML(layout={"flex": "1 1 16em"})
        self.field = CapabilitiesField("", self._enable)
        self.apply = _button("Apply", "Change what the node has", lambda: update(self.field.amounts or {}))
        self.drain = _button("Drain", "Let what runs there finish, then remove the node", lambda: remove(True))
        self.remove = _button("Remove", "Remove the node now; what runs there goes elsewhere", lambda: remove(False))
        self.logs = w.ToggleButton(description="Log", tooltip="What the node's agent wrote", layout={"width": "auto"})
        self.logs.observe(lambda change: self._show_log(), "value")
        self.note = w.HTML()
        self.log_text = w.HTML(layout={"display": "none"})
        controls = [self.field.text, self.apply, self.drain, self.remove, self.logs, self.field.note, self.note]
        super().__init__(
            [w.HBox([self.head, self.bars]), w.HBox(controls, layout={"flex_flow": "row wrap"}), self.log_text],
            layout={"border_bottom": _BORDER, "padding": "4px 0"},
        )
        self.add_class("hl-node")

    def show(self, state: NodeState) -> None:
        """Show the node as it is now; a field that someone types in is left alone."""
        self._there = state["status"] != "lost"
        self.head.value = _head(state)
        bars = [_bar(state, name, resource) for name, resource in state["resources"].items()]
        self.bars.value = "".join([*bars, *map(_gpu_line, state.get("gpus", ()))])
        known = amounts_text({name: resource["capability"] for name, resource in state["resources"].items()})
        if known != self._known:
            if self.field.text.value == self._known:
                self.field.show(known)
            self._known = known
        if self.logs.value:
            self._show_log()
        self._enable()

    def work(self, doing: str) -> None:
        """Something is being done with the node: say what, and take no other order."""
        self._busy = True
        self.note.value = message(doing)
        self._enable()

    def rest(self, error: str = "") -> None:
        """It is done, or failed."""
        self._busy = False
        self.note.value = message(error, error=True)
        self._enable()

    def close_down(self) -> None:
        """There is no cluster any more."""
        self._there = False
        self._busy = True
        self._enable()

    def close(self) -> None:
        """Take the row and all that is in it off the page."""
        close_with_parts(self)

    def _enable(self) -> None:
        field = self.field
        free = self._there and not self._busy
        field.text.disabled = not free
        self.apply.disabled = not free or field.amounts is None or field.text.value.strip() == self._known
        self.drain.disabled = not free
        self.remove.disabled = self._busy  # one that is lost can be taken off the list
        self.remove.description = "Remove" if self._there else "Forget"
        self.logs.disabled = not self._there

    def _show_log(self) -> None:
        self.log_text.layout.display = "" if self.logs.value else "none"
        if self.logs.value and self._there:
            text = escape(self._read_log())
            style = f"max-height:16em;overflow:auto;margin:0;padding:4px;background:{_TRACK};white-space:pre-wrap"
            self.log_text.value = f'<pre data-log="{escape(self.name)}" style="{style}">{text}</pre>'


def close_with_parts(widget: w.Widget) -> None:
    """Close a widget and everything in it, with their styles; ipywidgets closes the widget alone."""
    for child in getattr(widget, "children", ()):
        if type(child).close is w.Widget.close:
            close_with_parts(child)
        else:  # it has more to let go of
            child.close()
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, w.Widget):
            part.close()
    w.Widget.close(widget)


def message(text: str, error: bool = False) -> str:
    """A line beside a control; an error is announced."""
    if not text:
        return ""
    role, colour = ("alert", _ERROR) if error else ("status", _QUIET)
    return f'<span role="{role}" style="color:{colour}">{escape(text)}</span>'


def amounts_text(amounts: Mapping[str, float]) -> str:
    """Amounts as they are typed: ``cpu=2, memory=4000``."""
    return ", ".join(f"{name}={int(v) if float(v).is_integer() else v}" for name, v in amounts.items())


def _button(description: str, tooltip: str, clicked: Callable[[], object]) -> w.Button:
    button = w.Button(description=description, tooltip=tooltip, layout={"width": "auto"})
    button.on_click(lambda _: clicked())
    return button


def _head(state: NodeState) -> str:
    badge = (
        f"background:{state['colour']};color:{state['ink']};padding:0 .4em;border-radius:.25em;font-weight:600;"
        "display:inline-block;min-width:1em;text-align:center"
    )
    sign = {"up": "●", "draining": "◐", "lost": "✗"}[state["status"]]
    when = f" at {time.strftime('%H:%M:%S', time.localtime(state['lost']['at']))}" if state["lost"] else ""
    return (
        f'<div data-node="{escape(state["name"])}" data-status="{state["status"]}"><span style="{badge}">'
        f"{state['letter']}</span> <b>{escape(state['name'])}</b><br>"
        f'<span style="color:{_QUIET}">{sign} {state["status"]}{when}</span></div>'
    )


def _bar(node: NodeState, name: str, resource: ResourceState) -> str:
    """Claims as a bar in the node's colour, what is really used as a line below it."""
    capability, claimed, used = resource["capability"], resource["claimed"], resource["used"]
    whole = max(capability, claimed, used or 0.0, 1e-9)
    told = f"{format_amount(name, claimed)} of {format_amount(name, capability)} claimed"
    told += "" if used is None else f", {format_amount(name, round(used, 2 if name == 'cpu' else 0))} used"
    line = "" if used is None else f'<i style="{_line(used / whole, _STRONG, "bottom:0;height:3px")}"></i>'
    return (
        f'<div data-node="{escape(node["name"])}" data-resource="{escape(name)}" role="meter" aria-valuemin="0"'
        f' aria-valuemax="{capability:g}" aria-valuenow="{claimed:g}" aria-label="{escape(name)}"'
        f' aria-valuetext="{told}" style="display:flex;gap:.5em;align-items:center;line-height:1.6">'
        f'<span style="min-width:5em">{escape(name)}</span>'
        f'<span style="position:relative;flex:0 0 10em;height:12px;background:{_TRACK}">'
        f'<i style="{_line(claimed / whole, node["colour"], "top:0;height:12px")}"></i>{line}'
        f'<i style="position:absolute;top:-2px;height:16px;left:{100 * capability / whole:.4g}%;'
        f'border-left:2px solid {_STRONG}"></i></span><span style="color:{_QUIET}">{told}</span></div>'
    )


def _gpu_line(gpu: GpuState) -> str:
    """How busy one GPU is, with whatever."""
    busy = "" if gpu["percent"] is None else f"{gpu['percent']:.0f} % busy, "
    functions = "" if not gpu["functions"] else f", {gpu['functions']} function{'s' if gpu['functions'] > 1 else ''}"
    told = f"{busy}{format_bytes(gpu['memory'])} of {format_bytes(gpu['total'])}{functions}"
    return (
        f'<div data-gpu="{escape(gpu["gpu"])}" style="color:{_QUIET};line-height:1.6">'
        f"GPU {escape(gpu['gpu'])}: {told}</div>"
    )


def _line(share: float, colour: str, place: str) -> str:
    return f"position:absolute;left:0;width:{100 * share:.4g}%;background:{colour};{place}"
