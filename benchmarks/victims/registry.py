"""Which engines are put to the scenarios of faults. Their modules are imported where a scenario runs, nowhere else."""

from __future__ import annotations

from importlib import import_module

from victims.base import Victim

VICTIMS = {"handoff": "HandoffVictim", "dask": "DaskVictim", "ray": "RayVictim", "ipyparallel": "IPyParallelVictim"}


def make(name: str) -> Victim:
    victim: Victim = getattr(import_module(f"victims.{name}"), VICTIMS[name])()
    return victim
