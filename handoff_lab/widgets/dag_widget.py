"""The live widget of a DAG or a run: a model that front ends draw, and the saved output beside it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import traitlets
from anywidget import AnyWidget

from handoff_lab._errors import HandoffError
from handoff_lab.graph import DAG
from handoff_lab.graph.closest import closest
from handoff_lab.widgets.actions import Notebook
from handoff_lab.widgets.shown_output import LIVE_VIEW, ShownOutput
from handoff_lab.widgets.viewer import Viewer

if TYPE_CHECKING:
    from handoff_lab.run import Run

_STATIC: Final = Path(__file__).with_name("static")
_OPTIONS: Final = ("subject", "notebook")
_PLAIN: Final = ("structure", "state")  # traits that are JSON
_PATIENCE_S: Final = 10.0  # that a cell waits for the last picture of a run that is over


class DAGWidget(AnyWidget):
    """A live view of a DAG or a run: graph, nodes, timeline, table and details of each function.

    It can be used from any thread. Without a kernel (plain Python, a test) it is a model that nobody sees. A run of
    many functions that goes on is drawn a moment later or when it is over; `structure` and `state` are None until then.

    Parameters
    ----------
    subject : DAG or Run, optional
        What to show.
    notebook : Notebook, optional
        Who knows the cells that define the functions.
    """

    structure = traitlets.Dict(default_value=None, allow_none=True).tag(sync=True)
    state = traitlets.Dict(default_value=None, allow_none=True).tag(sync=True)
    key = traitlets.Unicode().tag(sync=True)

    _viewer: Viewer | None = None

    def __init__(self, subject: DAG | Run | None = None, *, notebook: Notebook | None = None, **unknown: Any) -> None:
        _refuse(unknown)
        _check(subject)
        viewer = Viewer(publish=self._publish, send=self._tell, notebook=notebook, settled=self._settle)
        super().__init__(key=viewer.key)
        self._viewer = viewer
        self._output = ShownOutput(self._bundle, self._finish)
        self.on_msg(self._take)
        viewer.show(subject)

    @property
    def _esm(self) -> str:
        return _built("widget.js")

    @property
    def _css(self) -> str:
        return _built("widget.css")

    def __repr__(self) -> str:
        subject = self.run or self.dag
        return f"<DAGWidget{'' if subject is None else f' of {subject!r}'}>"

    @property
    def run(self) -> Run | None:
        """The run that is shown, which may be another than was first given: a re-run is shown in its place."""
        return None if self._viewer is None else self._viewer.run

    @property
    def dag(self) -> DAG | None:
        """The graph that is shown."""
        return None if self._viewer is None else self._viewer.dag

    def watch(self, subject: DAG | Run | None) -> None:
        """Show another run or DAG."""
        _check(subject)
        if self._viewer is None:
            raise HandoffError("this widget was closed; make another")
        self._viewer.show(subject)

    def refresh(self) -> None:
        """Show a DAG that was changed as it is now, and which results are out of date."""
        if self._viewer is not None:
            self._viewer.refresh()

    def let_go(self) -> None:
        """Go on to show a run that is over, but don't keep its results for it."""
        if self._viewer is not None:
            self._viewer.let_go()

    def close(self) -> None:
        """Take the widget off the page, and let go of the run and its results."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            viewer.close()
            self._output.close()
        super().close()

    def get_state(self, key: str | Iterable[str] | None = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The model's state; all of it, for a page that has none yet, is of this moment."""
        found: dict[str, Any] = super().get_state(key, drop_defaults)
        if key is None and self._viewer is not None:
            found["state"] = self._viewer.snapshot()
        return found

    def send_state(self, key: str | Iterable[str] | None = None) -> None:
        """Send the model's state, or a part of it; nobody looks for binary values in graphs of many functions."""
        if key in _PLAIN:
            self._send({"method": "update", "state": self.get_state(key), "buffer_paths": []})
        else:
            super().send_state(key)

    # -- display ---------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        self._output.show()

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._bundle()

    def _bundle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, and beside it what a saved notebook shows: picture, table, text."""
        view = None if self.comm is None else super()._repr_mimebundle_()
        live, metadata = view or ({}, {})
        if live:
            live = {**live, LIVE_VIEW: {}}
        return {**live, **_still(self.run or self.dag), "text/plain": repr(self)}, metadata

    # -- of the viewer, from any thread ------------------------------------------------

    def _publish(self, name: str, value: Any) -> None:
        if getattr(self, name) == value:
            self.send_state(name)  # asked for again; an equal value would send nothing
        else:
            setattr(self, name, value)

    def _tell(self, message: dict[str, Any]) -> None:
        if self.comm is not None:
            self.send(message)

    def _settle(self) -> None:
        if self._viewer is not None:
            self._output.update()

    def _finish(self) -> None:
        """A cell has run: the last of a run that is over belongs to it."""
        viewer, run = self._viewer, self.run
        if viewer is not None and run is not None and run.status != "running":
            viewer.join(_PATIENCE_S)

    def _take(self, widget: object, content: Any, buffers: object) -> None:
        if self._viewer is not None and isinstance(content, dict):
            self._viewer.receive(content)


def _still(subject: DAG | Run | None) -> dict[str, Any]:
    from handoff_lab.visualization.display import dag_mimebundle, run_mimebundle

    if subject is None:
        return {}
    return dag_mimebundle(subject) if isinstance(subject, DAG) else run_mimebundle(subject)


@cache
def _built(name: str) -> str:
    path = _STATIC / name
    if not path.is_file():
        raise HandoffError(f"the widget's front end ({name}) was not built: run `make frontend`, or install a wheel")
    return path.read_text(encoding="utf-8")


def _check(subject: object) -> None:
    from handoff_lab.run import Run

    if subject is not None and not isinstance(subject, DAG | Run):
        raise TypeError(f"DAGWidget shows a DAG or a Run, not {subject!r}")


def _refuse(unknown: Iterable[str]) -> None:
    for name in unknown:
        near = closest(name, _OPTIONS)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {' and '.join(_OPTIONS)}"
        raise TypeError(f"DAGWidget takes no {name!r}{hint}")
