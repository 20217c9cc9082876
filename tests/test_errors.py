import pickle

from handoff_lab import AllocationError, FunctionFailedError, FunctionTimeoutError


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


def test_a_timeout_is_a_failure_of_its_function_and_one_of_pythons():
    error = FunctionTimeoutError("f", "alpha", 2, reason="too long")
    assert isinstance(error, TimeoutError)
    assert isinstance(error, FunctionFailedError)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one) == "function 'f' failed on node 'alpha' after 2 attempts: too long"
