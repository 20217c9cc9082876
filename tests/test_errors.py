import pickle

from handoff_lab import AllocationError, FunctionFailedError


def test_notes_and_other_additions_travel():
    error = FunctionFailedError("f", "alpha", 2, reason="ValueError: no")
    error.add_note("it was the third row")
    error.row = 3
    there = pickle.loads(pickle.dumps(error))
    assert there.__notes__ == ["it was the third row"]
    assert (there.row, there.function, str(there)) == (3, "f", str(error))


def test_a_function_that_costs_nothing_still_needs_a_node():
    assert str(AllocationError("f")) == (
        "function 'f' cannot be placed: the cluster has no nodes; add one with cluster.add_node(...)"
    )
