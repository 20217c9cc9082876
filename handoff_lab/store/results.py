"""The protocol of a result store that a user brings along."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ResultStore(Protocol):
    """Where the results of runs are published as they are made; keys are ``(run id, function id)``.

    ``put`` is called once for each function that finishes, from a thread of the cluster; ``get`` when
    ``run.results[...]`` is read; ``delete`` when the run is freed. A dictionary with these four methods will do.
    """

    def put(self, key: Any, value: Any) -> None:
        """Keep ``value`` under ``key``."""

    def get(self, key: Any) -> Any:
        """The value under ``key``; ``KeyError`` when there is none."""

    def delete(self, key: Any) -> None:
        """Forget what is under ``key``."""

    def __contains__(self, key: Any) -> bool:
        """Whether there is a value under ``key``."""
        ...
