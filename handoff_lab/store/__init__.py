"""Where results lie, and how values are packed."""

from handoff_lab.store.payload import Frames, Live, Payload
from handoff_lab.store.results import ResultStore

__all__ = ["Frames", "Live", "Payload", "ResultStore"]
