"""The rules of cells that define functions, each in a real kernel."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.real

PRE_A = "def pre_a(input_data):\n    return [x + 1 for x in input_data]\n"
AGG = "def agg(pre_a):\n    return sum(pre_a)\n"


def test_the_body_is_executed_once_and_the_function_stays_plain(notebook):
    notebook.ok("count = 0")
    notebook.ok(f"%%handoff --cpu 2\ncount += 1\n{PRE_A}", "A")
    assert notebook.value("count") == "1"
    assert notebook.value("pre_a([1, 2])") == "[2, 3]"
    assert notebook.value("type(pre_a).__name__") == "function"


def test_nothing_runs_on_definition(notebook):
    notebook.ok("%%handoff\ndef loud():\n    raise SystemExit('it ran')", "A")
    assert notebook.value("list(dag)") == "['loud']"


def test_flags_of_the_cell_are_defaults_of_its_functions(notebook):
    notebook.ok(
        "import handoff_lab as hl\n",
    )
    notebook.ok(
        "%%handoff --cpu 2 --memory 2GB --resource fpga=0.5 --resource lic=1 --node 'my box' --max-retries 5 "
        "--retry-delay 0.5 --timeout 30 --runs-in kernel --group 'first half'\n"
        "def one(): ...\n"
        "@hl.function(cost={'cpu': 1}, timeout=3)\n"
        "def two(one): ...\n",
        "A",
    )
    assert notebook.value("dict(dag['one'].cost)") == "{'cpu': 2.0, 'memory': 2000.0, 'fpga': 0.5, 'lic': 1.0}"
    options = "{0}.node, {0}.max_retries, {0}.retry_delay, {0}.timeout, {0}.runs_in, {0}.group"
    assert notebook.value(options.format("dag['one']")) == "my box 5 0.5 30 kernel first half"
    assert notebook.value("dict(dag['two'].cost), dag['two'].timeout, dag['two'].max_retries") == "{'cpu': 1.0} 3 5"


def test_an_inline_cell(notebook):
    notebook.ok("%%handoff --inline\ndef now(): return 1", "A")
    assert notebook.value("dag['now'].type") == "inline"


def test_a_leading_underscore_is_a_helper(notebook):
    notebook.ok("%%handoff\ndef _clip(x): return min(x, 9)\ndef load(path): return _clip(path)", "A")
    assert notebook.value("list(dag)") == "['path', 'load']"
    assert notebook.value("load(12), _clip(3)") == "9 3"


def test_a_parameter_without_a_producer_is_an_input(notebook):
    shown = notebook.ok(f"%%handoff\n{PRE_A}", "A")
    assert "inputs: input_data" in shown.text
    assert notebook.value("dag['input_data'].type") == "input"


def test_getsource_and_line_numbers_are_those_of_the_cell(notebook):
    notebook.ok("%%handoff\n\ndef wrong(x):\n    y = x\n    return y / 0\n", "A")
    source = notebook.value("__import__('inspect').getsource(wrong)")
    assert source == "def wrong(x):\n    y = x\n    return y / 0"
    assert notebook.value("wrong.__code__.co_firstlineno") == "3"
    failed = notebook.run("wrong(1)")
    assert failed.ename == "ZeroDivisionError"
    assert "return y / 0" in failed.traceback
    assert "----> 5" in failed.traceback


def test_an_error_in_the_body_shows_the_users_line_and_not_ours(notebook):
    failed = notebook.run(f"%%handoff\n{PRE_A}\n1 / 0\n", "A")
    assert failed.ename == "ZeroDivisionError"
    assert "----> 5" in failed.traceback
    assert "magics.py" not in failed.traceback
    assert "session.py" not in failed.traceback
    assert notebook.value("list(dag)") == "[]"


def test_a_syntax_error_points_at_the_line_of_the_cell(notebook):
    failed = notebook.run("%%handoff\nx = 1\ndef broken(:\n", "A")
    assert failed.ename == "SyntaxError"
    assert "line 3" in failed.traceback


def test_the_last_expression_is_shown_as_in_any_cell(notebook):
    assert notebook.ok(f"%%handoff\n{PRE_A}pre_a([1])", "A").result == "[2]"


def test_magics_and_shell_lines_in_the_body_work(notebook):
    shown = notebook.ok(f"%%handoff\nwhere = %pwd\n{PRE_A}", "A")
    assert "added pre_a" in shown.text
    assert notebook.value("bool(where)") == "True"


def test_future_imports_of_this_package_do_not_leak_into_the_cell(notebook):
    notebook.ok("%%handoff\ndef typed(x: int) -> int: return x", "A")
    assert notebook.value("typed.__annotations__['x']") == "<class 'int'>"


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("%%handoff --cpuu 2\nx = seen = 1", "did you mean '--cpu'?"),
        ("%%handoff --cpu two\nx = seen = 1", "'two' is not a number"),
        ("%%handoff --cpu -1\nx = seen = 1", "zero or more"),
        ("%%handoff --memory 2XB\nx = seen = 1", "'2XB' is not an amount of memory"),
        ("%%handoff --resource fpga\nx = seen = 1", "not NAME=AMOUNT"),
        ("%%handoff --max-retries 1.5\nx = seen = 1", "not a whole number"),
        ("%%handoff --node 'my box\nx = seen = 1", "No closing quotation"),
        ("%%handoff run\nx = seen = 1", "write %handoff run on a line of its own"),
        ("%%handoff nonsense\nx = seen = 1", "'nonsense'"),
        ("%%handoff setup --cpu 2\nx = seen = 1", "takes no options"),
        ("%%handoff setup\n%pwd\nx = seen = 1", "plain Python"),
        ("%%handoff\nx = seen = 1\ndef a(): ...\ndef a(): ...", "defines 'a' twice"),
        ("%handoff", "say what to do: %handoff run|start"),
        ("%handoff rum", "did you mean run?"),
        ("%handoff run --sett x=1", "did you mean '--set'?"),
        ("%handoff run --set x", "not NAME=VALUE"),
        ("%handoff run -o 1x", "not the name of a variable"),
        ("%handoff run --failed --on beta", "--failed"),
        ("%handoff run nobody", "no function 'nobody'"),
        ("%handoff run --allocator load_balancd", "did you mean load_balanced?"),
        ("%handoff start alpha", "NAME:cpu=4"),
        ("%handoff start alpha:cpu", "NAME=AMOUNT"),
        ("%handoff stop", "no cluster is running"),
        ("%handoff nodes", "no cluster is running"),
        ("%handoff plan", "a plan needs nodes"),
        ("%handoff watch", "nothing has been run yet"),
        ("%handoff logs x", "nothing has been run yet"),
        ("%handoff cancel", "nothing has been run yet"),
        ("%handoff report", "nothing has been run yet"),
        ("%handoff run --failed", "nothing has been run yet"),
        ("%handoff import nowhere.py", "there is no file nowhere.py"),
        ("%%on alpha\nx = seen = 1", "no cluster is running"),
        ("%%on\nx = seen = 1", "the following arguments are required"),
    ],
)
def test_a_misuse_fails_the_cell_with_one_clean_line(notebook, cell, complaint):
    outcome = notebook.run(cell, "A")
    assert (outcome.status, outcome.ename) == ("error", "UsageError")
    assert complaint in outcome.evalue
    assert outcome.traceback == ""  # front ends show the line that went to stderr
    assert outcome.evalue in outcome.stderr
    assert notebook.value("'seen' in globals(), len(dag)") == "False 0"


def test_an_update_is_all_or_nothing(notebook):
    notebook.ok(f"%%handoff\n{AGG}", "A")
    bad = "import handoff_lab as hl\n@hl.function(id='agg')\ndef third(pre_a): ...\n"
    notebook.refused(f"%%handoff\n{PRE_A}{bad}", "B")
    assert notebook.value("sorted(dag)") == "['agg', 'pre_a']"
    assert notebook.value("dag['pre_a'].type") == "input"


def test_the_same_name_in_two_cells_is_an_error_that_names_both(notebook):
    first = notebook.ok(f"%%handoff\n{PRE_A}", "first-cell")
    assert "added pre_a" in first.text
    notebook.ok("seen = False")
    complaint = notebook.refused(f"%%handoff\nseen = True\n{PRE_A}", "second-cell")
    assert "'pre_a'" in complaint
    assert "first-cell" in complaint
    assert "second-cell" in complaint
    assert complaint.count("In [") == 2
    assert notebook.value("seen") == "False"  # refused before the body ran


def test_an_edited_cell_replaces_its_functions(notebook):
    notebook.ok(f"%%handoff\n{PRE_A}\ndef old(pre_a): ...", "A")
    notebook.ok(f"%%handoff\n{AGG}", "B")
    shown = notebook.ok("%%handoff --cpu 3\ndef pre_a(input_data): return input_data\ndef new(pre_a): ...", "A")
    assert shown.text.splitlines()[0] == (
        "added new · changed pre_a · removed old · stale: pre_a, agg · inputs: input_data"
    )
    assert notebook.value("sorted(dag)") == "['agg', 'input_data', 'new', 'pre_a']"
    assert notebook.value("dag['pre_a'].cost['cpu']") == "3.0"
    assert shown.shown[1]["image/svg+xml"].count("stale") == 2


def test_an_edited_helper_makes_its_users_stale(notebook):
    notebook.ok("%%handoff\ndef _half(x): return x / 2\ndef load(path): return _half(path)", "A")
    notebook.ok("%%handoff\ndef agg(load): ...\ndef alone(): ...", "B")
    shown = notebook.ok("%%handoff\ndef _half(x): return x / 3\ndef load(path): return _half(path)", "A")
    assert "stale: load, agg ·" in shown.text
    assert "stale: load, agg" in notebook.ok("%handoff status").text
    assert "stale: load, agg" in notebook.ok("%handoff graph").text


def test_running_a_cell_again_unchanged_makes_nothing_stale(notebook):
    notebook.ok(f"%%handoff\n{PRE_A}", "A")
    shown = notebook.ok(f"%%handoff\n{PRE_A}", "A")
    assert shown.text.splitlines()[0] == "no function changed · inputs: input_data"
    assert "stale" not in notebook.ok("%handoff status").text


def test_defining_a_producer_later_is_no_edit(notebook):
    notebook.ok(f"%%handoff\n{AGG}", "B")
    assert "stale" not in notebook.ok(f"%%handoff\n{PRE_A}", "A").text
    assert notebook.value("list(dag)") == "['input_data', 'pre_a', 'agg']"


def test_the_output_is_one_line_and_one_picture(notebook):
    shown = notebook.ok(f"%%handoff\n{PRE_A}", "A").shown
    assert len(shown) == 2
    assert list(shown[0]) == ["text/plain"]
    assert "\n" not in shown[0]["text/plain"]
    assert "<svg" in shown[1]["image/svg+xml"]


def test_an_emptied_cell_takes_its_functions_along(notebook):
    notebook.ok(f"%%handoff\n{PRE_A}", "A")
    assert "removed pre_a" in notebook.ok("x = 1", "A").text
    assert notebook.value("list(dag)") == "[]"


def test_without_cell_ids_the_name_decides(notebook):
    notebook.ok(f"%%handoff\n{PRE_A}")
    assert "changed pre_a" in notebook.ok("%%handoff\ndef pre_a(input_data): ...").text


class TestDecorator:
    """``@dag.function`` goes by the same rules."""

    def test_defines_replaces_and_removes(self, notebook):
        first = notebook.ok(f"@dag.function(cost={{'cpu': 2}})\n{PRE_A}\n@dag.function\n{AGG}", "A")
        assert first.text.splitlines()[0] == "added pre_a, agg · inputs: input_data"
        assert "<svg" in first.shown[1]["image/svg+xml"]
        edited = notebook.ok("@dag.function\ndef pre_a(input_data): ...", "A")
        assert edited.text.splitlines()[0] == "changed pre_a · removed agg · stale: pre_a · inputs: input_data"
        assert notebook.value("pre_a(1)") == "None"

    def test_two_cells_cannot_define_one_name(self, notebook):
        notebook.ok(f"@dag.function\n{PRE_A}", "first-cell")
        failed = notebook.run(f"@dag.function\n{PRE_A}", "second-cell")
        assert failed.ename == "DuplicateFunctionError"
        assert "first-cell" in failed.evalue
        assert "second-cell" in failed.evalue

    def test_a_cell_that_fails_defines_nothing(self, notebook):
        failed = notebook.run(f"@dag.function\n{PRE_A}\n@dag.function(cost={{'cpu': -1}})\n{AGG}", "A")
        assert failed.ename == "InvalidFunctionError"
        assert notebook.value("list(dag)") == "[]"

    def test_a_run_that_fails_in_the_cell_is_no_failed_definition(self, notebook):
        notebook.ok("import handoff_lab as hl\nfail = False")
        cell = (
            "@dag.function(max_retries=0)\ndef wrong():\n    assert not fail\n"
            "hl.execute_local(dag)\n@dag.function\ndef later(): ...\n"
        )
        notebook.ok(cell, "A")
        notebook.ok("fail = True")
        assert notebook.run(cell, "A").ename == "FunctionFailedError"
        assert notebook.value("list(dag)") == "['wrong', 'later']"

    def test_add_in_a_cell_can_be_run_again(self, notebook):
        notebook.ok("import handoff_lab as hl")
        cell = "dag.add(hl.Function('xs', lambda: [1]), hl.Function('total', sum, args=['xs']));"
        notebook.ok(cell, "A")
        notebook.ok(cell, "A")
        assert notebook.value("list(dag)") == "['xs', 'total']"

    def test_twice_in_one_cell_is_an_error(self, notebook):
        failed = notebook.run(f"@dag.function\n{PRE_A}\n@dag.function\n{PRE_A}", "A")
        assert failed.ename == "DuplicateFunctionError"

    def test_works_inside_a_handoff_cell(self, notebook):
        notebook.ok(f"%%handoff --cpu 2\n@dag.function(cost={{'cpu': 1}})\n{PRE_A}\n{AGG}", "A")
        assert notebook.value("dag['pre_a'].cost['cpu'], dag['agg'].cost['cpu']") == "1.0 2.0"

    def test_in_the_cell_that_loads_the_extension(self, notebook):
        notebook.ok("%unload_ext handoff_lab")
        loading = f"%load_ext handoff_lab\n@dag.function\n{PRE_A}"
        notebook.ok(loading, "A")
        notebook.ok(loading, "A")
        assert notebook.value("list(dag)") == "['input_data', 'pre_a']"


def test_reset_forgets_functions_and_puts_the_name_dag_back(notebook):
    notebook.ok(f"%%handoff\n{PRE_A}", "A")
    notebook.ok("dag = None")
    notebook.ok("%handoff reset")
    assert notebook.value("len(dag)") == "0"
    notebook.ok(f"%%handoff\n{PRE_A}", "B")  # no owner is left over


def test_unload_takes_everything_away(notebook):
    notebook.ok(f"%%handoff\n{PRE_A}", "A")
    notebook.ok("%unload_ext handoff_lab")
    assert notebook.value("'dag' in globals()") == "False"
    assert notebook.run("%handoff status").status == "error"
    assert "export" not in notebook.complete("%handoff ex")
    notebook.ok("%load_ext handoff_lab")
    assert notebook.value("len(dag)") == "0"
