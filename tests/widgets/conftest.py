"""What tests of widgets share: runs as events, and a few lines in the place of the front end."""

import threading

import pytest

from handoff_lab import DAG, Function
from handoff_lab.telemetry import Event, RunRecord

FUNCTION = ("handoff", "execution", "function")
NODES = {"beta": {"cpu": 2.0}, "alpha": {"cpu": 2.0, "memory": 4000.0}}


def fan(count, **options):
    """One function, and ``count`` that take its result."""
    return DAG("fan").add(
        Function("src", list, **options), *(Function(f"f{i}", len, ["src"], **options) for i in range(count))
    )


class History:
    """Tells a record what happens."""

    def __init__(self, dag, nodes=NODES, places=None):
        self.record = RunRecord()
        ids = [id for id, function in dag.functions.items() if function.type == "regular"]
        names = sorted(nodes)
        self.places = places or {id: names[i % len(names)] for i, id in enumerate(ids)}
        facts = {"dag": dag.name, "strategy": "s", "capabilities": nodes, "allocations": self.places}
        self.tell(("handoff", "run", "start"), 0.0, costs={id: {"cpu": 1.0} for id in ids}, **facts)

    def tell(self, name, time, numbers=None, **facts):
        facts = facts if name[1] == "node" or name[-1] == "utilization" else {"run": "r1", **facts}
        self.record.apply(Event(name, 1000.0 + time, numbers or {}, facts))

    def about(self, id, attempt, slot):
        return {"function": id, "node": self.places[id], "attempt": attempt, "slot": slot}

    def queued(self, id, time):
        self.tell((*FUNCTION, "queued"), time, function=id, node=self.places[id])

    def start(self, id, time, attempt=1, slot=0):
        self.tell((*FUNCTION, "start"), time, {"started": 1000.0 + time}, **self.about(id, attempt, slot))

    def stop(self, id, begin, end, attempt=1, slot=0, how="stop", **facts):
        numbers = {"started": 1000.0 + begin, "ended": 1000.0 + end, "nbytes": 8, "peak_memory": 5_000_000}
        self.tell((*FUNCTION, how), end, numbers, **self.about(id, attempt, slot), **facts)

    def claim(self, node, time, claimed):
        self.tell(("handoff", "resource", "allocation"), time, node=node, claimed=claimed)

    def load(self, node, time, cpu_percent, memory):
        self.tell(
            ("handoff", "resource", "utilization"), time, {"cpu_percent": cpu_percent, "memory": memory}, node=node
        )

    def node(self, what, name, time, **facts):
        self.tell(("handoff", "node", what), time, node=name, **facts)

    def move(self, id, target, time):
        source, self.places[id] = self.places[id], target
        self.tell((*FUNCTION, "move"), time, function=id, source=source, target=target, reason="lost")

    def transfer(self, id, source, target, begin, end):
        numbers = {"nbytes": 100, "started": 1000.0 + begin, "ended": 1000.0 + end}
        self.tell(("handoff", "transfer", "stop"), end, numbers, function=id, source=source, target=target)


@pytest.fixture(name="fan")
def fan_fixture():
    return fan


@pytest.fixture(name="make_history")
def history_class():
    return History


@pytest.fixture
def front_end(tmp_path, monkeypatch):
    from handoff_lab.widgets import dag_widget

    (tmp_path / "widget.js").write_text("export default { render() {} };")
    (tmp_path / "widget.css").write_text(".hl-app { color: red; }")
    monkeypatch.setattr(dag_widget, "_STATIC", tmp_path)
    dag_widget._built.cache_clear()
    yield tmp_path
    dag_widget._built.cache_clear()


@pytest.fixture(autouse=True)
def own_log_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def gate():
    """Functions that wait for it run until the test lets them go."""
    event = threading.Event()
    yield event
    event.set()
