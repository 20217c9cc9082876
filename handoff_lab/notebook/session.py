"""What the magics of one notebook share: its graph, its cluster, its last run."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from handoff_lab._errors import AllocationError, HandoffError, RunError
from handoff_lab.graph.decorator import make_function, marked_options
from handoff_lab.notebook.cells import compile_body, plain_source, running_count
from handoff_lab.notebook.display import show_change
from handoff_lab.notebook.freshness import Freshness, inputs
from handoff_lab.notebook.graph import Cell, NotebookDAG

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster
    from handoff_lab.run import Run
    from handoff_lab.widgets.dag_widget import DAGWidget

_DEFINED_WELL = (RunError, AllocationError, KeyboardInterrupt)  # it is the run that failed, not the definition


class Session:
    """The state behind ``%handoff``.

    It opens and closes the cells of the graph with IPython's own events, so the
    decorator ``@dag.function`` and the magic go by the same rules.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.dag = NotebookDAG()
        self.run: Run | None = None
        self._cluster: Cluster | None = None
        self._options: dict[str, Any] = {}  # of the last run
        self._widgets: list[DAGWidget] = []  # that magics showed, of the last run
        self._freshness = Freshness()
        self._raw_cells: list[str] = []
        self._counts: list[int] = []
        self._loading = True  # the cell that loads the extension has begun before there was anyone to see it
        self._open_cell(None, "", running_count(shell, stored=True))

    # -- cells ---------------------------------------------------------------

    def begin_cell(self, info: ExecutionInfo) -> None:
        """IPython is about to run a cell."""
        if self._loading:  # it was no cell that loaded the extension
            self._close_cell(keep=True, whole=True)
        self._open_cell(info.cell_id, info.raw_cell or "", running_count(self.shell, info.store_history))

    def end_cell(self, result: ExecutionResult) -> None:
        """IPython has run a cell: show what it changed, or take back what it defined if it failed."""
        if not self._raw_cells:  # the cell that loaded the extension ran others inside
            return
        error = result.error_before_exec or result.error_in_exec
        keep = error is None or isinstance(error, _DEFINED_WELL)
        if self._close_cell(keep=keep, whole=error is None) and keep:
            self._show_change(picture=result.result is not self.dag)
        for widget in self._widgets:
            widget.refresh()

    def define(self, body: str, options: Mapping[str, Any]) -> None:
        """Execute the body of a ``%%handoff`` cell and add the functions that it defines."""
        __tracebackhide__ = True
        with self._inside_cell():
            compiled = compile_body(self.shell, body, self._raw_cell, self._count)
            with usage_errors():
                self.dag.must_be_free(compiled.names)
            compiled.run(self.shell.user_ns)
            decorated = [function.code for function in self.dag.defined]
            codes = [self.shell.user_ns.get(name) for name in compiled.names]
            with usage_errors():
                self.dag.add(
                    *(
                        make_function(code, {**options, **marked_options(code)})
                        for code in codes
                        if code is not None and code not in decorated
                    )
                )

    def set_up(self, body: str) -> None:
        """Execute the body of a ``%%handoff setup`` cell here, and keep it for the slots."""
        source = plain_source(body)
        with self._inside_cell():
            compile_body(self.shell, body, self._raw_cell, self._count).run(self.shell.user_ns)
            self.dag.set_up(source)

    @contextmanager
    def as_cell(self, cell: Cell) -> Iterator[None]:
        """Everything defined inside belongs to ``cell``."""
        self.dag.open_cell(cell)
        try:
            yield
        except BaseException:
            self.dag.close_cell(keep=False)
            raise
        self.dag.close_cell(keep=True)

    @contextmanager
    def _inside_cell(self) -> Iterator[None]:
        """The running cell, or one made for a magic that is called from elsewhere."""
        if self.dag.is_open:
            yield
            return
        with self.as_cell(Cell(None, f"In [{self._count}]")):
            yield
        self._show_change(picture=True)

    def _open_cell(self, key: str | None, raw_cell: str, count: int) -> None:
        self._raw_cells.append(raw_cell)
        self._counts.append(count)
        self.dag.open_cell(Cell(key, f"In [{count}]"))

    def _close_cell(self, *, keep: bool, whole: bool) -> bool:
        self._loading = False
        self._raw_cells.pop()
        self._counts.pop()
        return self.dag.close_cell(keep=keep, whole=whole)

    def _show_change(self, *, picture: bool) -> None:
        show_change(self._freshness.update(self.dag, self.setup_text), self.dag if picture else None)

    @property
    def _raw_cell(self) -> str | None:
        """The running cell as it was typed, which names it for the debugger."""
        return self._raw_cells[-1] or None if self._raw_cells else None

    @property
    def _count(self) -> int:
        """The number of the running cell."""
        return self._counts[-1] if self._counts else int(self.shell.execution_count)

    # -- state ---------------------------------------------------------------

    @property
    def setup_text(self) -> str:
        """The sources of all setup cells."""
        return "\n".join(self.dag.setup)

    def stale(self) -> tuple[Hashable, ...]:
        """Functions whose last result is not what they would give now."""
        return self._freshness.stale(self.dag, self.setup_text)

    def submit(
        self,
        targets: Sequence[Hashable] | None = None,
        *,
        resume: Run | None = None,
        again: Sequence[Hashable] = (),
        **options: Any,
    ) -> Run:
        """Run the graph, or what ``targets`` need, on the notebook's cluster, which is started if need be."""
        needed = self.dag.subgraph(targets) if targets else self.dag.functions
        cluster = self.start_cluster(None)
        self.run = cluster.submit(self.dag, targets, setup=self.dag.setup, resume=resume, again=again, **options)
        self._options = options
        self._freshness.submitted(self.dag, self.setup_text, needed)
        return self.run

    def rerun_stale(self) -> Run:
        """Run what is out of date or was not finished; the last run's other results are taken over."""
        before, stale = self.run, self.stale()
        if before is None or before.status == "running":
            raise RunError("nothing was run yet" if before is None else f"run {before.id} still goes on")
        if before.cluster_closed:
            raise RunError(f"run {before.id} was on a cluster that is stopped, and its results with it; %handoff run")
        if not stale:
            raise RunError("nothing is stale: every function is as it was when it last ran")
        wanted = set(inputs(self.dag))
        given = {id: value for id, value in self._options["inputs"].items() if id in wanted}
        return self.submit(**self._options | {"inputs": given}, resume=before, again=stale)

    def adopt(self, before: Run, run: Run) -> None:
        """A view ran ``before`` again: if that was the last run, ``run`` is it now."""
        if self.run is before:
            self.run = run

    def widget(self, run: Run) -> DAGWidget:
        """A live view of a run."""
        from handoff_lab.widgets.dag_widget import DAGWidget

        self._let_go()
        widget = DAGWidget(run, notebook=self)
        self._widgets.append(widget)
        return widget

    def _let_go(self) -> None:
        """Earlier runs that are over: what shows them does not keep their results."""
        for widget in [w for w in self._widgets if w.run is not self.run]:
            if widget.run is None or widget.run.status != "running":
                widget.let_go()
                self._widgets.remove(widget)

    def place(self, id: Hashable) -> tuple[str | None, str] | None:
        """Key and label of the cell that defines a function."""
        cell = self.dag.owner(id)
        return None if cell is None else (cell.key, cell.label)

    @property
    def last_run(self) -> Run:
        """The last run, which must be there."""
        if self.run is None:
            raise UsageError("nothing has been run yet: %handoff run")
        return self.run

    @property
    def cluster(self) -> Cluster | None:
        """The notebook's cluster, if one was started."""
        return self._cluster

    def start_cluster(self, nodes: Mapping[str, Mapping[str, float]] | None) -> Cluster:
        """Start the notebook's cluster; the one that is there if it is what is asked for."""
        if self._cluster is not None:
            if nodes and self._cluster.discover() != nodes:
                raise UsageError(f"{self._cluster!r} is running; %handoff stop ends it")
            return self._cluster
        from handoff_lab.cluster import Cluster  # loads zmq

        self._cluster = Cluster(nodes, name="notebook")
        return self._cluster

    def stop_cluster(self) -> None:
        """Close the notebook's cluster; does nothing where there is none."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def close(self) -> None:
        """Let go of everything: the magics are taken out."""
        self.run = None
        self.stop_cluster()
        self._let_go()

    def reset(self) -> None:
        """Begin with an empty graph under the name ``dag``."""
        self.dag.clear()
        self.run = None
        self._let_go()
        self._freshness = Freshness()
        self.shell.push({"dag": self.dag}, interactive=False)


@contextmanager
def usage_errors() -> Iterator[None]:
    """What handoff_lab refuses inside is a misuse of the magic: one clean line, and the cell fails."""
    try:
        yield
    except HandoffError as error:
        raise UsageError(str(error)) from error
