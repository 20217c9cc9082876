"""Fakes for tests of your own: runs in virtual time, on nodes that exist only in memory, and messages that meet faults.

`handoff_lab.testing.conformance` holds the tests that every backend has to pass, `handoff_lab.testing.hosts` hosts with
lines between them that can be cut, `handoff_lab.testing.soak` a test for as long as you like.

>>> from handoff_lab.testing import SimulatedBackend, Simulation
>>> backend = SimulatedBackend({"alpha": {"cpu": 1}}, duration=lambda attempt: 2.0)
"""

from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation
from handoff_lab.testing.faults import Faults, faulty_sockets
from handoff_lab.testing.lossy import LossyBackend

__all__ = ["Faults", "LossyBackend", "SimulatedBackend", "Simulation", "faulty_sockets"]
