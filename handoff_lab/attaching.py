"""Clusters whose coordinator is a process of its own: how one is started, found again, and asked for its runs."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from handoff_lab._units import is_seconds, parse_bytes
from handoff_lab.coordinator.request import Request, take_up
from handoff_lab.detached import places, starting
from handoff_lab.detached.client import Client
from handoff_lab.detached.place import Settings
from handoff_lab.telemetry.log import log_directory as usual_log_directory

if TYPE_CHECKING:
    from handoff_lab.allocation import AllocatorLike
    from handoff_lab.cluster import Cluster
    from handoff_lab.coordinator.state import RunState
    from handoff_lab.resources import Resources, ResourceTracker
    from handoff_lab.store import ResultStore

log = logging.getLogger(__name__)


def attach(name_or_path: str | os.PathLike[str] | None = None) -> Cluster:
    """Give back a cluster that was started with ``detached=True``, from any process of the same user on this machine.

    ``cluster.runs`` are its runs with their events, results and status so far; what is finished does not run again.
    If its coordinator was killed, another takes its place and goes on with what the nodes hold. Several processes may
    be attached at once: each hears of everything, and what one does, a run's cancellation for example, is done for all.

    Parameters
    ----------
    name_or_path : str or path, optional
        The cluster's name, or the directory in which it is kept. Default: the only one that there is.

    Raises
    ------
    BackendError
        There is no such cluster; the message names those that there are.
    AuthenticationError
        Its directory is another user's: what is kept there is unpickled, so it is not even looked at.
    """
    from handoff_lab.cluster import Cluster

    client = starting.attach(places.find(name_or_path))
    try:
        allocator, names = client.kept
    except BaseException:
        client.detach()
        raise
    return Cluster._over(client, client.place.name, allocator, tuple(filter(None, map(_module, names))))


def start(
    name: str,
    nodes: Mapping[str, Resources],
    *,
    lease_s: float,
    allocator: AllocatorLike,
    resource_tracker: ResourceTracker | None,
    result_store: ResultStore | None,
    log_directory: str | os.PathLike[str] | None,
    by_value: Sequence[ModuleType],
    host: str,
    store_limit: int | str | None,
) -> Client:
    """Start the coordinator of a detached cluster, with its nodes."""
    if result_store is not None:
        raise ValueError("a detached cluster takes no result_store: it never unpickles results; read run.results")
    if "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} is no name for a detached cluster: it would be taken for a path; use another")
    if not is_seconds(lease_s) or not lease_s:
        raise ValueError(f"lease is {lease_s!r}; it must be a number of seconds above 0")
    settings = Settings(
        name,
        socket.gethostname(),
        {name: dict(capabilities) for name, capabilities in nodes.items()},
        host,
        None if store_limit is None else parse_bytes(store_limit),
        float(lease_s),
        str(Path(log_directory or usual_log_directory()).absolute()),
    )
    return starting.start(settings, resource_tracker, (allocator, [module.__name__ for module in by_value]))


def take_over(client: Client, run: str) -> tuple[RunState, Request]:
    """A run that another process began: its state, which fills and stays up to date, and what was asked for."""
    request, given = client.face(run)
    state = take_up(request, run, given)
    client.follow(state)
    return state, request


def _module(name: str) -> ModuleType | None:
    """A module whose functions are to travel with the code, if it is here, too."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        log.warning("functions of %s will not travel by value: %s", name, error)
        return None
