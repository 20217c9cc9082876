"""How a process comes to a detached coordinator: it starts one, or finds one that is there."""

from __future__ import annotations

import contextlib
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import BackendError
from handoff_lab.detached import places
from handoff_lab.detached.client import Client
from handoff_lab.detached.place import Place, Settings
from handoff_lab.detached.process import launch


def start(settings: Settings, tracker: Any, kept: Any) -> Client:
    """Start the coordinator of a new cluster, and wait for its nodes.

    Parameters
    ----------
    tracker
        The user's resource tracker, or None.
    kept
        Whatever another client is to know of the cluster: see ``Client.kept``.

    Raises
    ------
    BackendError
        There is a cluster of this name, or it could not be started.
    """
    place = places.make(settings.name)
    client: Client | None = None
    try:
        if tracker is not None:
            place.write("tracker", cloudpickle.dumps(tracker))
        place.write("kept", cloudpickle.dumps(kept))
        place.settings = settings
        launch(place)
        client = Client(place)
        client.open()
        client.wait_for_nodes(settings.nodes)
    except BaseException:
        if client is not None:
            with contextlib.suppress(BackendError):
                client.close()
        place.remove()  # a coordinator that comes up now finds that, and ends
        raise
    return client


def attach(place: Place) -> Client:
    """Connect to the coordinator of a place; one is started if it was killed."""
    if not place.is_served:
        launch(place)
    client = Client(place)
    client.open()
    return client
