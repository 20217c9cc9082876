"""What functions cost and nodes have: arithmetic, the ledger of claims, what this machine has."""

from handoff_lab.resources.amounts import Resources, parse_capabilities, parse_cost
from handoff_lab.resources.probe import probe_machine
from handoff_lab.resources.tracker import ResourceTracker, SimpleResourceTracker

__all__ = [
    "ResourceTracker",
    "Resources",
    "SimpleResourceTracker",
    "parse_capabilities",
    "parse_cost",
    "probe_machine",
]
