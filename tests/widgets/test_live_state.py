"""Snapshots and patches say what the record says, a patch no more than what changed."""

import json
import time

import pytest

from handoff_lab import DAG, Function, Plan, Resources
from handoff_lab.widgets.rows import MOST_TRANSFERS
from handoff_lab.widgets.state import LiveState


def applied(state, patch):
    """What the browser makes of a state and the patch after it."""
    state = json.loads(json.dumps(state))
    patch = json.loads(json.dumps(patch))
    assert patch["seq"] == state["seq"] + 1
    state["seq"], state["now"] = patch["seq"], patch["now"]
    state["run"] = {**(state["run"] or {}), **patch.get("run", {})} or None
    columns = patch.get("functions", {"at": []})
    for row, at in enumerate(columns["at"]):
        status = list(state["status"])
        status[at] = columns["status"][row]
        state["status"] = "".join(status)
        for name in ("node", "slot", "attempts", "queued", "started", "ended", "peak", "transfer"):
            state[name][at] = columns[name][row]
    state["errors"] = {k: v for k, v in {**state["errors"], **patch.get("errors", {})}.items() if v is not None}
    nodes = {node["name"]: node for node in state["nodes"]}
    state["nodes"] = list({**nodes, **{node["name"]: node for node in patch.get("nodes", [])}}.values())
    state["earlier"] += patch.get("earlier", [])
    state["transfers"] += patch.get("transfers", [])
    state["stale"] = patch.get("stale", state["stale"])
    state["plan"] = patch.get("plan", state["plan"])
    return state


def node_of(state, name):
    return next(node for node in state["nodes"] if node["name"] == name)


@pytest.fixture
def story(fan, make_history):
    """A run in which everything happens, a step at a time; each step tells the record of it."""
    dag = fan(3)
    history = make_history(dag)
    places = history.places
    steps = [
        lambda: history.queued("src", 0.1),
        lambda: history.start("src", 0.2),
        lambda: history.claim("alpha", 0.2, {"cpu": 1.0}),
        lambda: history.stop("src", 0.2, 1.0),
        lambda: history.transfer("src", "alpha", "beta", 1.0, 1.25),
        lambda: (history.start("f0", 1.5), history.load("beta", 1.6, 150.0, 2e9)),
        lambda: history.stop("f0", 1.5, 2.0, how="exception", error="no such file\nmore", type="OSError"),
        lambda: history.tell(("handoff", "execution", "function", "retry"), 2.0, function="f0", node="beta", attempt=2),
        lambda: history.start("f0", 2.5, attempt=2),
        lambda: history.node("down", "beta", 3.0, reason="killed"),
        lambda: (history.move("f0", "alpha", 3.0), history.move("f2", "alpha", 3.0)),
        lambda: history.node("up", "aaa", 3.5, capabilities={"cpu": 1.0}),
        lambda: history.start("f0", 4.0, attempt=3),
        lambda: history.stop("f0", 4.0, 5.0, attempt=3, how="exception", error="no such file"),
        lambda: history.tell(("handoff", "execution", "function", "skip"), 5.0, function="f1", because="f0"),
    ]
    assert places == {"src": "alpha", "f0": "beta", "f1": "alpha", "f2": "beta"}
    return dag, history, steps


def test_what_a_moved_function_did_stays_where_it_was_done(story):
    dag, history, steps = story
    for step in steps[:11]:
        step()
    live = LiveState("k", dag, history.record)
    live.patch(3.0, None)
    state = live.snapshot(3.0)
    beta = [node["name"] for node in state["nodes"]].index("beta")
    assert state["node"][1] == 1 - beta
    assert (state["slot"][1], state["started"][1], state["ended"][1]) == (-1, None, None)
    assert state["earlier"] == [(1, 1, beta, 0, 1.5, 2.0, "f"), (1, 2, beta, 0, 2.5, 3.0, "f")]


def test_a_state_with_its_patches_is_the_state_of_one_who_comes_later(story):
    dag, history, steps = story
    live = LiveState("k", dag, history.record)
    live.patch(1.0, None)
    seen = live.snapshot(1.0)
    for step in steps:
        step()
        patch = live.patch(2.0, None)
        assert patch is not None
        seen = applied(seen, patch)
    late = LiveState("k", dag, history.record)
    late.patch(2.0, None)
    expected = {**json.loads(json.dumps(late.snapshot(2.0))), "seq": seen["seq"]}
    assert seen == expected == json.loads(json.dumps({**live.snapshot(2.0)}))


def test_nothing_new_is_no_patch(story):
    dag, history, steps = story
    live = LiveState("k", dag, history.record)
    assert live.patch(1.0, None) is not None
    for step in steps:
        step()
    assert live.patch(2.0, None) is not None
    assert live.patch(3.0, None) is None
    assert live.seq == 2


def test_what_is_shown(story):
    dag, history, steps = story
    for step in steps:
        step()
    live = LiveState("k", dag, history.record)
    live.patch(1.0, None)
    state = live.snapshot(1.0)
    assert state["status"] == "dfsw"
    assert [node["name"] for node in state["nodes"]] == ["alpha", "beta", "aaa"]
    assert [node["letter"] for node in state["nodes"]] == ["A", "B", "C"]
    assert state["node"] == [0, 0, 0, 0]
    assert state["attempts"] == [1, 3, 0, 0]
    assert (state["queued"][0], state["started"][0], state["ended"][0]) == (0.1, 0.2, 1.0)
    assert state["peak"][0] == 5_000_000
    assert state["errors"] == {"1": "no such file"}
    assert state["transfers"] == [(0, 0, 1, 1.0, 1.25, 100)]
    assert state["earlier"] == [(1, 1, 1, 0, 1.5, 2.0, "f"), (1, 2, 1, 0, 2.5, 3.0, "f")]
    beta = node_of(state, "beta")
    assert beta["status"] == "lost"
    assert beta["lost"] == {"at": 3.0, "reason": "killed", "moved": [1, 3]}
    assert node_of(state, "alpha")["resources"] == {
        "cpu": {"capability": 2.0, "claimed": 1.0, "used": None},
        "memory": {"capability": 4000.0, "claimed": 0.0, "used": None},
    }


def test_a_node_that_joins_later_changes_nobody_s_letter(fan, make_history):
    history = make_history(fan(1))
    live = LiveState("k", fan(1), history.record)
    live.patch(1.0, None)
    before = {node["name"]: (node["letter"], node["colour"]) for node in live.snapshot(1.0)["nodes"]}
    history.node("up", "aardvark", 1.0, capabilities={"cpu": 1.0})
    patch = live.patch(2.0, None)
    assert [node["name"] for node in patch["nodes"]] == ["aardvark"]
    after = {node["name"]: (node["letter"], node["colour"]) for node in live.snapshot(2.0)["nodes"]}
    assert after == {**before, "aardvark": ("C", after["aardvark"][1])}


def test_a_node_that_comes_back_is_up_and_its_loss_is_history(story):
    dag, history, steps = story
    for step in steps:
        step()
    live = LiveState("k", dag, history.record)
    history.node("up", "beta", 6.0, capabilities={"cpu": 2.0})
    live.patch(1.0, None)
    beta = node_of(live.snapshot(1.0), "beta")
    assert (beta["status"], beta["lost"]) == ("up", None)


def test_a_node_that_drains_is_told_at_once(fan, make_history):
    history = make_history(fan(1))
    live = LiveState("k", fan(1), history.record)
    live.patch(1.0, None)
    for draining, status in ((True, "draining"), (False, "up")):
        history.node("changed", "alpha", 1.0, capabilities={"cpu": 2.0}, draining=draining)
        (alpha,) = live.patch(1.1, None, meters=False)["nodes"]
        assert alpha["status"] == status


def test_claims_are_told_at_once_and_measures_wait_for_the_meters(fan, make_history):
    history = make_history(fan(1))
    live = LiveState("k", fan(1), history.record)
    live.patch(1.0, None)
    history.claim("alpha", 1.0, {"cpu": 2.0})
    (alpha,) = live.patch(1.1, None, meters=False)["nodes"]
    assert alpha["resources"]["cpu"]["claimed"] == 2.0
    history.load("alpha", 1.2, 150.0, 2e9)
    assert live.patch(1.3, None, meters=False) is None
    (alpha,) = live.patch(2.0, None)["nodes"]
    assert alpha["resources"]["cpu"] == {"capability": 2.0, "claimed": 2.0, "used": 1.5}
    assert alpha["resources"]["memory"]["used"] == 2000.0


def test_who_takes_a_result_over_an_inline_function_waited_for_its_transfer(make_history):
    dag = DAG("d").add(
        Function("src", list), Function("half", len, ["src"], type="inline"), Function("end", len, ["half"])
    )
    history = make_history(dag, places={"src": "alpha", "end": "beta"})
    history.transfer("src", "alpha", "beta", 1.0, 1.5)
    live = LiveState("k", dag, history.record)
    live.patch(1.0, None)
    assert live.snapshot(1.0)["transfer"] == [None, None, 0.5]


def test_an_event_that_the_record_has_not_taken_in_yet_is_looked_at_again(fan, make_history):
    history = make_history(fan(1))
    live = LiveState("k", fan(1), history.record)
    live.patch(1.0, None)
    function = history.record.functions["src"]
    history.queued("src", 0.5)
    waiting, function.queued, function.status = (
        (function.queued, function.status),
        None,
        type(function.status)("waiting"),
    )
    assert live.patch(1.1, None) is None  # the event is there, what it says is not
    function.queued, function.status = waiting
    assert live.patch(1.2, None)["functions"]["status"] == "q"


def test_transfers_are_bounded(fan, make_history):
    history = make_history(fan(1))
    for i in range(MOST_TRANSFERS + 5):
        history.transfer("src", "alpha", "beta", float(i), i + 0.5)
    live = LiveState("k", fan(1), history.record)
    live.patch(1.0, None)
    assert len(live.snapshot(1.0)["transfers"]) == MOST_TRANSFERS


def test_a_plan_and_stale_marks_are_told_once(fan, make_history):
    dag = fan(1)
    live = LiveState("k", dag, make_history(dag).record)
    live.patch(1.0, None)
    nodes = {"alpha": Resources({"cpu": 1.0})}
    live.show_plan(
        Plan.from_times(dag, {"src": "alpha", "f0": "alpha"}, {"src": 0.0, "f0": 1.0}, {"src": 1.0, "f0": 3.0}, nodes)
    )
    live.mark_stale(["f0", "unknown"])
    patch = live.patch(1.0, None)
    assert patch["plan"] == {"node": [0, 0], "slot": [0, 0], "start": [0.0, 1.0], "end": [1.0, 3.0]}
    assert patch["stale"] == [1]
    live.mark_stale(["f0"])
    assert live.patch(1.0, None) is None
    assert live.snapshot(1.0)["plan"] == patch["plan"]


def test_a_dag_that_was_not_run_waits(fan):
    live = LiveState("k", fan(2), None)
    assert live.patch(1.0, None) is None
    state = live.snapshot(1.0)
    assert (state["status"], state["run"], state["nodes"]) == ("www", None, [])


@pytest.mark.parametrize("how", ["start", "stop"])
def test_a_change_of_one_percent_of_1000_functions_is_under_2_kb(fan, make_history, how):
    dag = fan(999)
    history = make_history(dag, nodes={f"node-{k}": {"cpu": 8.0, "memory": 64000.0} for k in range(8)})
    changed = [f"f{i}" for i in range(500, 510)]
    for id in changed:
        history.queued(id, 123.123)
        if how == "stop":
            history.start(id, 234.234, slot=7)
    live = LiveState("k" * 16, dag, history.record)
    live.patch(1.0, None)
    for id in changed:
        history.claim("node-3", 250.0, {"cpu": 4.0, "memory": 12345.678})
        (history.start if how == "start" else history.stop)(id, 234.567, *([] if how == "start" else [345.678]), slot=7)
    patch = live.patch(1.1, None, meters=False)
    assert len(patch["functions"]["at"]) == 10
    message = {"method": "custom", "content": patch}
    assert len(json.dumps(message).encode()) < 2000


def test_a_snapshot_of_50_000_functions_takes_little_and_a_patch_less(fan, make_history):
    dag = fan(49_999)
    history = make_history(dag)
    for i in range(20_000):
        history.start(f"f{i}", 1.0)

    def look():
        live = LiveState("k", dag, history.record)
        live.patch(1.0, None)
        live.snapshot(1.0)
        return live

    assert min(seconds(look) for _ in range(3)) < 3.0  # 0.2 where nothing else runs
    live = look()
    patches = []
    for i in range(20_001, 20_004):
        history.start(f"f{i}", 2.0)
        patches.append(seconds(lambda: live.patch(1.0, None)))
    assert min(patches) < 0.05  # 0.0002
    assert live.snapshot(1.0)["status"][20_002] == "r"


def seconds(work):
    """Of this process: what else the machine does counts little."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_claims_on_many_nodes_wait_for_the_meters(fan, make_history):
    history = make_history(fan(1))
    live = LiveState("k", fan(1), history.record)
    live.patch(1.0, None)
    for number in range(5):
        history.node("up", f"node-{number}", 1.0, capabilities={"cpu": 2.0})
    history.load("node-0", 1.0, 0.0, 0)
    live.patch(1.0, None)
    for number in range(5):
        history.claim(f"node-{number}", 1.1, {"cpu": 1.0})
    assert live.patch(1.2, None, meters=False) is None
    assert len(live.patch(2.0, None)["nodes"]) == 5
