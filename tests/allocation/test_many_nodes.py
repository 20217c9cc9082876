"""Four times the functions on four times the nodes are about four times the work, not sixteen times."""

from __future__ import annotations

import pytest

from handoff_lab.allocation import allocate
from handoff_lab.graph import Function
from handoff_lab.resources import Resources
from tests.work import work


def effort(strategy: str, nodes: int) -> int:
    """Chains of four functions, one for each node; each claims all of a node."""
    capabilities = {f"n{i:04}": Resources({"cpu": 1}) for i in range(nodes)}
    functions = [
        Function(i, list, cost={"cpu": 1}, args=[i - 1] if i % 4 else [], output_size=1000) for i in range(4 * nodes)
    ]
    return work(lambda: allocate(strategy, functions, capabilities))


@pytest.mark.parametrize("strategy", ["first_available", "cost_optimized", "load_balanced", "locality"])
def test_work_grows_with_functions_and_nodes_not_with_their_product(strategy: str) -> None:
    assert effort(strategy, 120) < 6 * effort(strategy, 30)
