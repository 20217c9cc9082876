import pytest

from handoff_lab._units import format_cost


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ({"memory": 0.5}, "memory 0.5 MB"),
        ({"memory": 64_000}, "memory 64000 MB"),
        ({"memory": 131_072}, "memory 131 GB"),
        ({"memory": 1_099_511.6}, "memory 1.1 TB"),
        ({"disk": 1_099_511, "cpu": 1.5}, "disk 1099511, cpu 1.5"),
        ({}, "nothing"),
    ],
)
def test_amounts_are_readable_whatever_their_size(cost, said):
    assert format_cost(cost) == said
