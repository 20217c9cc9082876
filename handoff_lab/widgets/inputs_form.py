"""`RunForm`: the inputs of a DAG and how to run it, as a form."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as w  # type: ignore[import-untyped]

from handoff_lab._errors import HandoffError, InvalidDAGError
from handoff_lab.allocation import STRATEGIES, resolve_allocator
from handoff_lab.graph import DAG
from handoff_lab.graph.closest import closest
from handoff_lab.widgets.node_row import close_with_parts, message
from handoff_lab.widgets.parameters import parameters_of, signature_of
from handoff_lab.widgets.value_field import EMPTY, ValueField

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster
    from handoff_lab.run import Run

_MOST_TARGETS = 500  # functions that are offered as targets


class RunForm(w.VBox):  # type: ignore[misc]
    """A form that runs a DAG: a field for each input, the allocator, a limit, targets; the run is shown below.

    The kind of a field follows the annotation of the parameter that takes the input: whole numbers, numbers, text,
    choices (``Literal``), yes or no; anything else is typed as a Python literal, or set from code.

    Parameters
    ----------
    dag : DAG
    cluster : Cluster, optional
        Where to run. Default: the default cluster, started with the first run.

    Attributes
    ----------
    run : Run or None
        The latest run.

    Examples
    --------
    >>> import handoff_lab as hl
    >>> dag = hl.DAG("double")
    >>> @dag.function
    ... def double(x: int):
    ...     return 2 * x
    >>> form = RunForm(dag)
    >>> form.values = {"x": 4}
    >>> form.values, form.allocator
    ({'x': 4}, 'first_available')
    """

    def __init__(self, dag: DAG, cluster: Cluster | None = None) -> None:
        self._dag = dag
        self._cluster = cluster
        self.run: Run | None = None
        self.fields = {
            id: ValueField(id, *_expected(dag, id), self._check)
            for id, function in dag.functions.items()
            if function.type == "input"
        }
        strategy = "first_available" if cluster is None else cluster.default_strategy
        self._own_strategy: Any = None if strategy in STRATEGIES else strategy  # the cluster's, which has no name
        named = strategy if self._own_strategy is None else "the cluster's"
        options = STRATEGIES if self._own_strategy is None else ("the cluster's", *STRATEGIES)
        self._allocator = w.Dropdown(options=options, value=named)
        self._limit = ValueField("max_concurrency", int | None, EMPTY, self._check, least=1)
        self._limit.control.placeholder = "no limit"
        offered = [id for id, f in dag.functions.items() if f.type == "regular"][:_MOST_TARGETS]
        self._targets = w.SelectMultiple(options=[(str(id), id) for id in offered], rows=min(6, max(2, len(offered))))
        self.button = w.Button(description="Run", icon="play", button_style="primary")
        self.button.on_click(lambda _: self._clicked())
        self.note = w.HTML()
        self._watched = w.VBox()
        rows = [
            *(field.row for field in self.fields.values()),
            _labelled("allocator", self._allocator),
            self._limit.row,
            _labelled("targets (none: all)", self._targets),
            w.HBox([self.button, self.note]),
            self._watched,
        ]
        super().__init__(rows)
        self.add_class("hl-run-form")

    def __repr__(self) -> str:
        return f"<RunForm of {self._dag!r}>"

    @property
    def values(self) -> dict[Hashable, Any]:
        """The inputs that are given; set some with ``form.values = {...}``, of any type."""
        found = {}
        for id, field in self.fields.items():
            try:
                found[id] = field.value()
            except ValueError:
                continue
        return found

    @values.setter
    def values(self, values: Mapping[Hashable, Any]) -> None:
        for id in values:
            if id not in self.fields:
                near = closest(id, self.fields)
                hint = f"; did you mean {near[0]!r}?" if near else f"; its inputs are {list(self.fields)}"
                raise InvalidDAGError(f"the DAG {self._dag.name!r} has no input {id!r}{hint}")
        for id, value in values.items():
            self.fields[id].set(value)

    @property
    def allocator(self) -> Any:
        """The allocation strategy: a name, or what the cluster was made with."""
        chosen = self._allocator.value
        return chosen if chosen in STRATEGIES else self._own_strategy

    @allocator.setter
    def allocator(self, name: str) -> None:
        resolve_allocator(name)
        self._allocator.value = name

    @property
    def max_concurrency(self) -> int | None:
        """How many functions run at the same time; None: no limit."""
        limit: int | None = self._limit.value()
        return limit

    @max_concurrency.setter
    def max_concurrency(self, limit: int | None) -> None:
        self._limit.set(limit)

    @property
    def targets(self) -> tuple[Hashable, ...]:
        """Run only what these functions need; empty: everything."""
        return tuple(self._targets.value)

    @targets.setter
    def targets(self, targets: Sequence[Hashable]) -> None:
        self._targets.value = tuple(targets)

    def submit(self) -> Run:
        """Run the DAG as the form says, and show the run below it.

        Raises
        ------
        HandoffError
            Something is missing or wrong; the form says it, too.
        """
        wrong = self._wrong()
        if wrong:
            raise InvalidDAGError(f"the form is not complete: {'; '.join(wrong)}")
        needed = self._needed()
        self.run = self._where().submit(
            self._dag,
            self.targets or None,
            inputs={id: value for id, value in self.values.items() if id in needed},
            allocation_strategy=self.allocator,
            max_concurrency=self.max_concurrency,
            setup=tuple(getattr(self._dag, "setup", ())),  # the notebook's graph has some
        )
        self._show(self.run)
        return self.run

    def close(self) -> None:
        """Take the form off the page; its run goes on."""
        close_with_parts(self)

    # -- inside ----------------------------------------------------------------

    def _clicked(self) -> None:
        self.note.value = message("starting…")
        try:
            self.submit()
        except Exception as error:  # all of it is for the one who clicked
            self.note.value = message(str(error), error=True)
        else:
            self.note.value = ""

    def _check(self) -> None:
        """Early: what is wrong is shown while it is typed, and cannot be run; what is missing is told at the end."""
        fields = (*self.fields.values(), self._limit)
        self.button.disabled = any(field.error and field.control.value for field in fields)

    def _wrong(self) -> list[str]:
        """What keeps the DAG from being run; each field says its own."""
        needed = self._needed()
        fields = [field for id, field in self.fields.items() if not field.check(needed=id in needed)]
        fields += [] if self._limit.check() else [self._limit]
        return [f"{field.id}: {field.error}" for field in fields]

    def _needed(self) -> Mapping[Hashable, Any]:
        return self._dag.subgraph(self.targets) if self.targets else self._dag.functions

    def _where(self) -> Cluster:
        if self._cluster is not None:
            return self._cluster
        from handoff_lab.api import default_cluster

        cluster = default_cluster()
        if not cluster.nodes:
            cluster.add_node()
        return cluster

    def _show(self, run: Run) -> None:
        from handoff_lab.widgets.dag_widget import DAGWidget

        shown = self._watched.children
        try:
            if shown and isinstance(shown[0], DAGWidget):
                shown[0].watch(run)
            else:
                self._watched.children = (DAGWidget(run),)
        except HandoffError as error:  # the front end was not built: the run goes on all the same
            self._watched.children = (w.HTML(message(str(error), error=True)),)


def _expected(dag: DAG, id: Hashable) -> tuple[Any, Any]:
    """Annotation and default of a parameter that takes the input; the first that says something."""
    for user in dag.dependents(id):
        function = dag[user]
        by_name = {parameter.name: parameter for parameter in signature_of(function)}
        for argument, name in zip(function.arguments, parameters_of(function)):
            if argument.id != id or name not in by_name or function.argument_inclusion == "as_list":
                continue
            parameter = by_name[name]
            if parameter.annotation is not EMPTY or parameter.default is not EMPTY:
                return parameter.annotation, parameter.default
    return EMPTY, EMPTY


def _labelled(text: str, control: w.ValueWidget) -> w.HBox:
    return w.HBox([w.Label(text, layout={"width": "10em"}), control])
