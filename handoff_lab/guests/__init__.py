"""Nodes on the engines, workers and hosts of another system, which lends its places for as long as they stay."""

from handoff_lab.guests.guests import Guests

__all__ = ["Guests"]
