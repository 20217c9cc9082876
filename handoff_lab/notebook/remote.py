"""``%%on``: a cell that runs in the kernel of a node, with its output here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from handoff_lab._errors import CellFailedError

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster


def run_on(shell: InteractiveShell, cluster: Cluster, node: str, source: str) -> None:
    """Run ``source`` in the kernel of ``node``.

    Raises
    ------
    CellFailedError
        It raised there; the traceback shown here is the remote one.
    """
    relay = _Relay(shell)
    try:
        reply = cluster.run_cell(node, source, relay)
    except KeyboardInterrupt:
        cluster.interrupt_cell(node)
        raise
    if reply["status"] != "ok":
        raise CellFailedError(
            node, reply.get("ename", "aborted"), reply.get("evalue", "the cell did not run"), reply.get("traceback", [])
        )


class _Relay:
    """Shows here what the kernel of a node publishes."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._publish = shell.display_pub.publish
        self._clear = shell.display_pub.clear_output

    def __call__(self, message: dict[str, Any]) -> None:
        kind, content = message["type"], message["content"]
        if kind == "stream":
            stream = sys.stderr if content["name"] == "stderr" else sys.stdout
            stream.write(content["text"])
        elif kind in ("display_data", "execute_result", "update_display_data"):
            self._publish(
                data=content["data"],
                metadata=content["metadata"],
                transient=content.get("transient"),
                update=kind == "update_display_data",
            )
        elif kind == "clear_output":
            self._clear(content["wait"])  # type: ignore[no-untyped-call]
