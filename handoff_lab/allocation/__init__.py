"""Where functions run: strategies, what they guarantee, and plans."""

from handoff_lab.allocation.base import Allocation, Allocator, AllocatorLike
from handoff_lab.allocation.guarantees import allocate
from handoff_lab.allocation.plan import Plan
from handoff_lab.allocation.strategies import STRATEGIES, resolve_allocator
from handoff_lab.allocation.time_optimized import Schedule, TimeOptimized

__all__ = [
    "STRATEGIES",
    "Allocation",
    "Allocator",
    "AllocatorLike",
    "Plan",
    "Schedule",
    "TimeOptimized",
    "allocate",
    "resolve_allocator",
]
