"""Fakes for tests of your own: runs in virtual time, on nodes that exist only in memory.

`handoff_lab.testing.conformance` holds the tests that every backend has to pass.

>>> from handoff_lab.testing import SimulatedBackend, Simulation
>>> backend = SimulatedBackend({"alpha": {"cpu": 1}}, duration=lambda attempt: 2.0)
"""

from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation

__all__ = ["SimulatedBackend", "Simulation"]
