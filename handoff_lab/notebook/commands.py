"""What each ``%handoff`` command does."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.error import UsageError

from handoff_lab.allocation import STRATEGIES
from handoff_lab.graph.closest import closest
from handoff_lab.notebook import display, remote
from handoff_lab.notebook.arguments import COMMANDS, split_command
from handoff_lab.notebook.export import module_source
from handoff_lab.notebook.freshness import inputs
from handoff_lab.notebook.modules import import_module
from handoff_lab.notebook.session import Session, usage_errors

if TYPE_CHECKING:
    from handoff_lab.allocation import AllocatorLike
    from handoff_lab.cluster import Cluster
    from handoff_lab.run import Run

T = TypeVar("T", bound=Hashable)


def carry_out(session: Session, line: str) -> None:
    """Read the line of a ``%handoff`` and do what it says."""
    name, rest = split_command(line)
    _VERBS[name](session, COMMANDS[name].read(rest))


def run_on_node(session: Session, node: str, source: str) -> None:
    """What ``%%on NODE`` does."""
    cluster = _cluster(session)
    remote.run_on(session.shell, cluster, _find(node, cluster.nodes, "node"), source)


def _run(session: Session, options: Namespace) -> None:
    run = _again(session, options) if options.failed or options.stale else _submit(session, options)
    if options.variable:
        session.shell.push({options.variable: run})
    display.show_run(session, run, wait=options.wait)


def _submit(session: Session, options: Namespace) -> Run:
    dag = session.dag
    with usage_errors():
        if not options.ids:
            dag.validate()
        targets = [_find(id, dag.functions, "function") for id in options.ids] or None
        needed = dag.subgraph(targets) if targets else dag.functions
    given = {_find(name, inputs(dag), "input"): _value(session, text) for name, text in options.inputs}
    for id in inputs(dag):
        if id in needed and id not in given:
            users = ", ".join(map(str, dag.dependents(id)))
            raise UsageError(f"{users} needs the input {id!r}, which no function makes: --set {id}=VALUE")
    strategy = None if options.allocator is None else _allocator(session, options.allocator)
    cluster = session.start_cluster(None)
    nodes = [_find(name, cluster.nodes, "node") for name in options.nodes or ()] or None
    return session.submit(targets, inputs=given, allocation_strategy=strategy, nodes=nodes)


def _again(session: Session, options: Namespace) -> Run:
    if options.ids or options.inputs or options.nodes or options.allocator or (options.failed and options.stale):
        flag = "--failed" if options.failed else "--stale"
        raise UsageError(f"{flag} goes on from the last run as it was asked for; it takes only --wait and -o")
    run = session.last_run
    if options.stale:
        with usage_errors():
            return session.rerun_stale()
    if run.status not in ("failed", "cancelled"):
        raise UsageError(f"nothing to run again: the last run is {run.status}")
    stale = session.stale()
    if stale:
        edited = ", ".join(map(str, stale))
        raise UsageError(f"edited since the last run: {edited}; %handoff run --stale runs what that changes")
    session.run = run.rerun_failed()
    return session.run


def _start(session: Session, options: Namespace) -> None:
    with usage_errors():
        display.show(session.start_cluster(dict(options.nodes) or None))


def _stop(session: Session, options: Namespace) -> None:
    _cluster(session)
    session.stop_cluster()
    display.show_text("the cluster is stopped")


def _plan(session: Session, options: Namespace) -> None:
    from handoff_lab.planning import plan

    nodes: Any = dict(options.nodes) or session.cluster
    if nodes is None:
        raise UsageError("a plan needs nodes: %handoff start, or describe some: %handoff plan alpha:cpu=4 beta:cpu=2")
    strategy = _allocator(session, options.allocator or "time_optimized")
    with usage_errors():
        display.show(plan(session.dag, nodes, allocation_strategy=strategy))


def _nodes(session: Session, options: Namespace) -> None:
    display.show(_cluster(session))


def _graph(session: Session, options: Namespace) -> None:
    display.show_graph(session.dag, session.stale())


def _watch(session: Session, options: Namespace) -> None:
    display.show_run(session, session.last_run, wait=False)


def _status(session: Session, options: Namespace) -> None:
    names = ", ".join(map(str, session.stale()))
    stale = f"; stale: {names}" if names else ""
    cluster = "no cluster" if session.cluster is None else repr(session.cluster)
    run = "not run yet" if session.run is None else repr(session.run)
    display.show_text(f"{session.dag!r}{stale}\n{cluster}\n{run}")


def _logs(session: Session, options: Namespace) -> None:
    functions = session.last_run.record.functions
    id = _find(options.id, functions, "function")
    display.show_text(functions[id].log or f"{id} wrote nothing")


def _cancel(session: Session, options: Namespace) -> None:
    run = session.last_run
    with usage_errors():
        run.cancel(None if options.id is None else _find(options.id, run.dag.functions, "function"))


def _report(session: Session, options: Namespace) -> None:
    from handoff_lab import visualization

    run, path = session.last_run, Path(options.path).expanduser()
    visualization.report(run, path)
    display.show_text(f"report on run {run.id}: {path}")


def _export(session: Session, options: Namespace) -> None:
    path = Path(options.path).expanduser()
    nodes = None if session.cluster is None else session.cluster.discover()
    with usage_errors():
        source = module_source(session.dag, session.dag.setup, nodes)
    path.write_text(source, encoding="utf-8")
    display.show_text(f"{len(session.dag)} functions written to {path}; run it with: python {path}")


def _import(session: Session, options: Namespace) -> None:
    path = Path(options.path).expanduser()
    with usage_errors():
        import_module(session, path)


def _reset(session: Session, options: Namespace) -> None:
    session.reset()


_VERBS: dict[str, Callable[[Session, Namespace], None]] = {
    "run": _run,
    "start": _start,
    "stop": _stop,
    "plan": _plan,
    "nodes": _nodes,
    "graph": _graph,
    "watch": _watch,
    "status": _status,
    "logs": _logs,
    "cancel": _cancel,
    "report": _report,
    "export": _export,
    "import": _import,
    "reset": _reset,
}


def _find(text: str, known: Iterable[T], what: str) -> T:
    """The one of ``known`` that reads as ``text``."""
    by_text = {str(value): value for value in known}
    if text not in by_text:
        meant = closest(text, by_text)
        hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(by_text) or 'none'}"
        raise UsageError(f"there is no {what} {text!r}; {hint}")
    return by_text[text]


def _value(session: Session, text: str) -> Any:
    """What an expression of the notebook gives, or the text itself where it is none."""
    try:
        return eval(text, session.shell.user_ns)  # noqa: S307 (the user's own words, in the user's own namespace)
    except Exception:
        return text


def _allocator(session: Session, name: str) -> AllocatorLike:
    """A strategy's name, or what a variable of the notebook holds."""
    if name in STRATEGIES:
        return name
    if name in session.shell.user_ns:
        allocator: AllocatorLike = session.shell.user_ns[name]
        return allocator
    meant = closest(name, STRATEGIES)
    hint = (
        f"did you mean {meant[0]}?"
        if meant
        else f"there are {', '.join(STRATEGIES)}, and the variables of this notebook"
    )
    raise UsageError(f"there is no allocator {name!r}; {hint}")


def _cluster(session: Session) -> Cluster:
    if session.cluster is None:
        raise UsageError("no cluster is running: %handoff start")
    return session.cluster
