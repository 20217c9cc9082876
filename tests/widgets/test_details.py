"""What a click on a function tells."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.widgets import value_fetcher
from handoff_lab.widgets.details import LOG_LIMIT, Details, details
from handoff_lab.widgets.preview import HTML_LIMIT, TEXT_LIMIT, preview
from handoff_lab.widgets.reproduce import reproducing_code
from handoff_lab.widgets.traceback_cut import cut

LIMITS = {"high": 3, "scale": np.array([1.0, 2.0])}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hl.Cluster]:
    logs = tmp_path_factory.mktemp("logs")
    with hl.Cluster({"alpha": {"cpu": 1}}, backend="local", log_directory=logs) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_fetcher, "PATIENCE_S", 60.0)


def one(code: Any, *args: Any, **options: Any) -> hl.DAG:
    return hl.DAG("one").add(hl.Function("f", code, *args, **options))


def told(cluster: hl.Cluster, code: Any) -> Details:
    """What is told of a function that was run."""
    return details(cluster.execute(one(code), raise_on_error=False, max_retries=0), "f")


# -- what it is -----------------------------------------------------------------


def _clip(x: Any) -> Any:
    """At most as much as LIMITS says."""
    return np.minimum(x, LIMITS["high"])


def _scaled(x: Any, *rest: Any, by: float = 1.0) -> Any:
    """Scale it.

    Indented lines stay.
    """
    return _clip(x) * by * LIMITS["scale"]


def test_a_function_that_was_not_run_tells_what_it_is() -> None:
    dag = hl.DAG("d").add(
        hl.Function("x", type="input"),
        hl.Function(("s", 1), _scaled, ["x"], extra_args=["more"], kwargs={"by": 2.0},
                    cost={"cpu": 2, "memory": "2GiB"}, timeout=90, retry_on=(ValueError, KeyError), node="alpha"),
    )  # fmt: skip
    told = details(dag, ("s", 1))
    assert (told["function"], told["id"], told["cost"]) == (1, "('s', 1)", "cpu 2, memory 2147.48 MB")
    assert told["doc"] == "Scale it.\n\nIndented lines stay."
    assert told["source"] is not None
    assert told["source"].startswith('<span class="k">def</span> <span class="nf">_scaled</span>')
    assert "style=" not in told["source"]
    assert told["place"] == f"test_details.py:{_scaled.__code__.co_firstlineno}"
    assert dict(told["options"]) == {"node": "alpha", "timeout": "1 min 30 s", "retry_on": "ValueError, KeyError"}
    assert [(i["function"], i["parameter"], i["text"]) for i in told["inputs"]] == [
        (0, "x", "x"),
        (-1, "*rest", "'more'"),
        (-1, "by", "2.0"),
    ]
    assert (told["result"], told["attempts"], told["log"], told["error"]) == (None, [], "", None)
    json.dumps(told)


def test_source_is_text_not_html() -> None:
    told = details(one(lambda: ["<script>", "</script>"]), "f")
    assert "<script>" not in (told["source"] or "")
    assert "&lt;script&gt;" in (told["source"] or "")


@pytest.mark.parametrize("code", [sum, functools.partial(max, 1), int, np.add, dict.fromkeys])
def test_what_has_no_python_source_is_told_without(code: Any) -> None:
    told = details(one(code, ["f0"]).add(hl.Function("f0", list)), "f")
    assert told["source"] is None
    assert told["doc"]


def test_a_partial_and_a_decorated_function_show_what_was_written() -> None:
    @functools.wraps(_clip)
    def wrapper(*args: Any) -> Any:
        return _clip(*args)

    for code in (functools.partial(_clip, 1), wrapper):
        told = details(one(code), "f")
        assert "_clip" in (told["source"] or "")
        assert told["doc"] == "At most as much as LIMITS says."


def test_parameters_of_lists_are_named_once_for_all() -> None:
    dag = hl.DAG().add(*(hl.Function(id, list) for id in "abc"))
    dag.add(
        hl.Function("all", lambda xs, k: 0, ["a", "b"], argument_inclusion="as_list", extra_args=[1]),
        hl.Function(
            "some",
            lambda first, xs, last: 0,
            ["a", hl.Argument("b", argument_inclusion="as_list"), hl.Argument("c", argument_inclusion="as_list"), "a"],
        ),
    )
    assert [i["parameter"] for i in details(dag, "all")["inputs"]] == ["xs", "xs", "k"]
    assert [i["parameter"] for i in details(dag, "some")["inputs"]] == ["first", "xs", "xs", "last"]
    assert details(dag, "some")["inputs"][1]["text"] == "b, in a list"


def test_an_unknown_function_is_refused() -> None:
    with pytest.raises(hl.MissingFunctionError):
        details(one(list), "g")


# -- what became of it ----------------------------------------------------------


def test_a_result_is_shown(cluster: hl.Cluster) -> None:
    seen = told(cluster, lambda: np.arange(6.0).reshape(2, 3))
    assert seen["result"] is not None
    assert seen["result"]["type"] == "numpy.ndarray"
    assert seen["result"]["text"].startswith("array (2, 3) float64\narray([[0.")
    assert [(a["number"], a["node"], a["slot"], a["status"]) for a in seen["attempts"]] == [(1, "alpha", 0, "d")]
    assert 0 <= (seen["attempts"][0]["started"] or 0) <= (seen["attempts"][0]["ended"] or 0) < 60


def test_an_input_shows_its_value(cluster: hl.Cluster) -> None:
    dag = one(lambda x: x, None)
    run = cluster.execute(dag, inputs={"x": [1, 2]})
    assert details(run, "f")["inputs"][0]["text"] == "x = [1, 2]"
    assert (details(run, "x")["result"] or {})["text"] == "[1, 2]"


def test_a_failure_tells_the_users_own_lines(cluster: hl.Cluster) -> None:
    def fail(xs: Any) -> Any:
        return np.concatenate([xs, [[1]]])  # numpy's own frames are left out

    dag = hl.DAG().add(hl.Function("xs", lambda: np.zeros(2)), hl.Function("f", fail, ["xs"]))
    dag.add(hl.Function("after", list, ["f"]))
    run = cluster.execute(dag, raise_on_error=False, max_retries=1, on_error="continue")
    seen = details(run, "f")
    assert seen["error"] is not None
    assert seen["error"].startswith("ValueError: all the input arrays must have same number of dimensions")
    assert seen["error"].endswith("called with xs=array(2,) float64")
    assert seen["traceback"] is not None
    assert "test_details.py" in seen["traceback"]
    assert "return np.concatenate" in seen["traceback"]
    assert seen["full_traceback"] is not None
    assert [(a["number"], a["status"]) for a in seen["attempts"]] == [(1, "f"), (2, "f")]
    assert seen["attempts"][0]["error"].startswith("ValueError")
    assert details(run, "after")["error"] == "skipped, because f failed"


class Awkward:
    def __init__(self, text: str = "") -> None:
        self.text = text

    def __repr__(self) -> str:
        if not self.text:
            raise RuntimeError("no")
        return self.text

    def _repr_html_(self) -> str:
        return self.text * 100

    def _repr_png_(self) -> bytes:
        raise OSError("no picture")


def test_a_value_that_cannot_be_shown_breaks_nothing(cluster: hl.Cluster) -> None:
    seen = told(cluster, Awkward)["result"]
    assert seen is not None
    assert "its repr raised RuntimeError: no" in seen["text"]
    assert seen["image"] is None


def test_a_value_that_takes_its_time_is_not_waited_for(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_fetcher, "PATIENCE_S", 0.1)
    go_on = threading.Event()

    class Slow:
        def __repr__(self) -> str:
            return str(go_on.wait(60))

    seen = told(cluster, Slow)
    go_on.set()
    assert seen["result"] is None
    assert seen["result_note"] == "it takes more than 0.1 s to look at; run.results['f'] fetches it"
    assert seen["result_again"]


def test_a_long_log_keeps_its_end(cluster: hl.Cluster) -> None:
    run = cluster.execute(one(list))
    run.record.functions["f"].log = "x" * 10 + "y" * LOG_LIMIT
    log = details(run, "f")["log"]
    assert log == "[10 characters before this are left out]\n" + "y" * LOG_LIMIT


def test_results_that_were_taken_over_are_shown(cluster: hl.Cluster) -> None:
    run = cluster.execute(hl.DAG().add(hl.Function("a", lambda: 7), hl.Function("b", lambda a: a, ["a"])))
    again = run.rerun("b").wait(60)
    assert (details(again, "a")["result"] or {})["text"] == "7"


@pytest.mark.real
def test_on_real_nodes_large_results_stay_where_they_are(tmp_path: Path) -> None:
    dag = hl.DAG().add(
        hl.Function("large", lambda: np.zeros(1_300_000)),
        hl.Function("small", lambda large: sys.stdout.write("seen\n") and large[:3], ["large"]),
        hl.Function("bad", lambda small: np.linalg.inv(small), ["small"]),
    )
    with hl.Cluster({"alpha": {"cpu": 1}}, log_directory=tmp_path, by_value=[sys.modules[__name__]]) as cluster:
        run = cluster.execute(dag, raise_on_error=False, max_retries=0, on_error="continue")
        large, small, bad = (details(run, id) for id in ("large", "small", "bad"))
    assert large["result"] is None
    assert large["result_note"] is not None
    assert large["result_note"].startswith("10.4 MB on node alpha, which is too much")
    assert not large["result_again"]
    assert small["result"] is not None
    assert small["result"]["text"] == "array (3,) float64\narray([0., 0., 0.])"
    assert small["result"]["nbytes"]
    assert (small["log"], small["inputs"][0]["nbytes"]) == ("seen\n", run.results.nbytes("large"))
    assert bad["traceback"] is not None
    assert bad["traceback"].count('File "') == 1
    assert bad["full_traceback"].count('File "') > 1
    assert "cluster is closed" in (details(run, "small")["result_note"] or "")


# -- looks -----------------------------------------------------------------------


def test_looks_are_bounded() -> None:
    assert len(preview("x" * 10**6)["text"]) <= TEXT_LIMIT
    assert len(preview(dict.fromkeys(range(10**4), "y" * 10**4))["text"]) <= TEXT_LIMIT + 1
    awkward = preview(Awkward("z" * HTML_LIMIT))
    assert awkward["html"] is None
    assert len(awkward["text"]) <= TEXT_LIMIT + 1
    json.dumps(awkward)


def test_a_table_shows_some_of_its_rows() -> None:
    pandas = pytest.importorskip("pandas")
    seen = preview(pandas.DataFrame({"a": range(5000), "b": "<b>"}))
    assert seen["html"] is not None
    assert seen["html"].count("<tr") < 25
    assert "5000 rows" in seen["html"]
    assert "<b>" not in seen["html"]
    assert preview(pandas.Series([1, 2], name="n"))["html"] is not None


def test_pictures_are_shown_small() -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure()
    figure.add_subplot().plot([1, 2])
    pixels = np.zeros((3000, 2000, 3), dtype=np.uint8)
    for value in (figure, pixels, pixels[:, :, 0], Image.new("CMYK", (2000, 10))):
        image = preview(value)["image"]
        assert image is not None
        assert image.startswith("data:image/png;base64,")
        assert len(image) < 100_000
    for value in (np.zeros((2, 2), dtype=np.uint8), np.zeros((30, 30)), Image.Image, type(figure)):
        assert preview(value)["image"] is None


# -- tracebacks ------------------------------------------------------------------

LONG = """Traceback (most recent call last):
  File "/usr/lib/python3.11/concurrent/futures/thread.py", line 58, in run
    result = self.fn(*self.args)
             ^^^^^^^^^^^^^^^^^^^
  File "/home/ada/pipeline.py", line 3, in load
    return _parse(text)
           ^^^^^^^^^^^^
  File "/home/ada/env/lib/python3.11/site-packages/pandas/core/frame.py", line 9, in f
    raise KeyError(key)
  [Previous line repeated 2 more times]
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/ada/pipeline.py", line 5, in load
    raise ValueError("two") from None
ValueError: two
  File "this is of the message", line 1
"""


def test_a_cut_traceback_keeps_the_users_frames_of_every_part() -> None:
    assert (
        cut(LONG)
        == """Traceback (most recent call last):
  File "/home/ada/pipeline.py", line 3, in load
    return _parse(text)
           ^^^^^^^^^^^^
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/ada/pipeline.py", line 5, in load
    raise ValueError("two") from None
ValueError: two
  File "this is of the message", line 1"""
    )


def test_a_traceback_without_a_frame_of_the_user_stays_whole() -> None:
    whole = LONG.replace("/home/ada/pipeline.py", "/usr/lib/python3.11/json/decoder.py")
    assert cut(whole) == whole.rstrip("\n")


OWN = str(Path(hl.__file__).with_name("store") / "payload.py")
LINK = "\n\nThe above exception was the direct cause of the following exception:\n\n"
HEAD = "Traceback (most recent call last):\n"
USER = HEAD + '  File "/home/ada/pipeline.py", line 6, in share\n    return s["Z"]\nKeyError: \'Z\''


@pytest.mark.parametrize("file", ["pandas/_libs/index.pyx", "pandas/_libs/helper.pxi", "/home/a/x.pxd", "gone/away.py"])
def test_a_part_of_compiled_files_is_left_out(file: str) -> None:
    assert cut(f"{HEAD}  File \"{file}\", line 172, in get_loc\nKeyError: 'Z'{LINK}{USER}\n") == USER


def test_code_that_was_typed_is_the_users() -> None:
    typed = HEAD + '  File "<stdin>", line 1, in f\nValueError: x'
    assert cut(HEAD + f'  File "{OWN}", line 1, in g\nTypeError: y{LINK}{typed}') == typed


def test_of_a_last_part_without_the_user_only_the_error_stays() -> None:
    last = f'{HEAD}  File "{OWN}", line 3, in dump\n    fail()\nHandoffError: no\nand why'
    assert cut(USER + LINK + last) == f"{USER}{LINK}HandoffError: no\nand why"


def test_frames_of_handoff_lab_are_never_shown() -> None:
    library = '  File "/usr/lib/python3.11/pickle.py", line 9, in dump\n'
    own = f'  File "{OWN}", line 3, in dump\n    fail()\n'
    assert cut(f"{HEAD}{own}{library}TypeError: no") == f"{HEAD}{library}TypeError: no"
    assert cut(f"{HEAD}{own}TypeError: no") == "TypeError: no"
    installed = '  File "/opt/lib/python3.12/site-packages/handoff_lab/store/payload.py", line 3, in dump\n'
    assert cut(f"{HEAD}{installed}TypeError: no") == "TypeError: no"


def test_a_message_that_reads_like_a_link_is_a_message() -> None:
    assert cut(f"{USER}{LINK}of the message") == f"{USER}{LINK}of the message"


# -- code that computes it again ---------------------------------------------------


def _pack(value: Any, source: str, target: str) -> list[Any]:
    return [value]


def _power(exponent: int) -> Any:
    def raised(x: Any) -> Any:
        return x**exponent

    return raised


SETUP = "import numpy as np\nOFFSET = 2"


def wide() -> hl.DAG:
    """Functions of every kind."""
    return hl.DAG("wide").add(
        hl.Function("x", type="input"),
        hl.Function("table", type="input"),
        hl.Function("clipped", _clip, ["x"]),
        hl.Function("scaled", _scaled, ["clipped"], kwargs={"by": 2.0}),
        hl.Function(("sum", 1), lambda a, b: (a + b).sum(), ["clipped", "scaled"]),
        hl.Function("product", functools.partial(np.multiply, 3),
                    [hl.Argument(("sum", 1), serialize=_pack, deserialize=lambda value, s, t: value[0])]),
        hl.Function("power", _power(2), {"x": "product"}),
        hl.Function("now", lambda: 1, type="inline"),
        hl.Function("most", max, ["product", "power", "now"], argument_inclusion="as_list"),
        hl.Function("report", lambda most, table, suffix: (float(most), len(table), suffix), ["most", "table"],
                    extra_args=[("end", {1: None})]),
    )  # fmt: skip


def test_the_code_computes_the_result_in_a_fresh_process(cluster: hl.Cluster, tmp_path: Path) -> None:
    inputs = {"x": np.array([1, 7]), "table": {"a": "b" * 100}}
    run = cluster.execute(wide(), inputs=inputs, setup=[SETUP])
    code = details(run, "report")["code"]
    assert SETUP in code
    assert "handoff_lab" not in code
    head, last = code.rstrip("\n").rsplit("\n", 1)
    script = tmp_path / "again.py"
    script.write_text(f"{head}\nprint(repr({last}))\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == repr(run.results["report"]), done.stderr


def test_the_code_has_only_what_is_needed() -> None:
    code = reproducing_code(wide(), "clipped", (), {"x": 5}.__getitem__)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    assert namespace["results"] == {"x": 5, "clipped": 3}
    assert "_scaled" not in code


@pytest.mark.parametrize("value", [np.zeros(10**5), "long" * 10**5, list(range(10**5))])
def test_a_large_input_is_left_open(value: Any) -> None:
    code = reproducing_code(wide(), "clipped", (), {"x": value}.__getitem__)
    assert "results['x'] = ...  # put its value here: 'x' uses a value of type" in code
    assert len(code) < 1000


def test_what_cannot_be_written_says_so() -> None:
    many = hl.DAG().add(*(hl.Function(i, list) for i in range(1000)))
    many.add(hl.Function("all", max, list(range(1000))))
    assert reproducing_code(many, "all", (), {}.__getitem__) == (
        "# 'all' needs 1001 functions, too many to be written one by one\n"
    )
    lock = threading.Lock()
    assert reproducing_code(one(lambda: lock), "f", (), {}.__getitem__).startswith(
        "# 'f' uses a value of type function"
    )
    results = {"results": 1}
    dag = hl.DAG().add(hl.Function("f", lambda: results))
    assert "cannot" not in reproducing_code(dag, "f", (), {}.__getitem__)


# -- in a notebook -----------------------------------------------------------------

NOTEBOOK = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in [
    "import handoff_lab as hl\\nFACTOR = 3",
    "%load_ext handoff_lab",
    "%%handoff\\ndef _helper(x): return x / 0\\n\\ndef first(x): return x * FACTOR\\n\\n"
    "def second(first):\\n    return _helper(first)",
    "cluster = hl.Cluster({'a': {'cpu': 1}}, backend='local')\\n"
    "run = cluster.execute(dag, inputs={'x': 2}, raise_on_error=False, max_retries=0)",
]:
    shell.run_cell(cell, store_history=True).raise_error()
from handoff_lab.widgets.details import details
print("\\n" + json.dumps([details(shell.user_ns["run"], id) for id in ("first", "second")]))
"""


@pytest.mark.real
def test_functions_of_cells_are_told_by_their_cells(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first["place"] == "In [3], line 4"
    assert "first" in first["source"]
    assert first["result"]["text"] == "6"
    assert second["traceback"].splitlines()[1:-1] == [
        "  In [3], line 7, in second",
        "    return _helper(first)",
        "           ^^^^^^^^^^^^^^",
        "  In [3], line 2, in _helper",
        "    def _helper(x): return x / 0",
        "                           ~~^~~",
    ]
    namespace: dict[str, Any] = {}
    exec(first["code"], namespace)
    assert namespace["results"]["first"] == 6
    assert "def _helper(x): return x / 0" in second["code"]
    assert "FACTOR = 3" in second["code"]
