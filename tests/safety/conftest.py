"""The kernel backend driven from the test's own thread, as its own tests have it."""

from tests.backends.conftest import make_rig

__all__ = ["make_rig"]
