"""Large values for other hosts: sent in chunks, as they are asked for, over connections of their own."""

from __future__ import annotations

import logging
from collections.abc import Container

from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer
from handoff_lab.transport.desk import Desk
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.questions import CHUNK, read_chunk
from handoff_lab.transport.sockets import BULK_THREAD
from handoff_lab.transport.zap import Admission

log = logging.getLogger(__name__)


class Chunks:
    """Sends chunks of a store's values to ``members``. It keeps nothing between two chunks but the connections."""

    def __init__(
        self,
        loop: Loop,
        keys: KeyPair,
        host: str,
        admission: Admission,
        members: Container[str],
        store: MemoryStore[Frames],
    ) -> None:
        self._store = store
        self.desk = Desk(loop, keys, host, BULK_THREAD, admission, members, self._asked)

    def _asked(self, name: str, identity: bytes, body: memoryview) -> None:
        self.desk.send(identity, *cut_chunk(self._store, body))


def cut_chunk(store: MemoryStore[Frames], body: memoryview) -> list[Buffer]:
    """The answer to a request for a chunk; raises ``WireError`` for what is none."""
    chunk = read_chunk(body)
    value = store.get(chunk.key)
    found = []
    try:
        if value is not None:
            found.append(value.piece(chunk.part, chunk.offset, min(chunk.size, CHUNK)))
    except (LookupError, OSError, ValueError) as error:
        log.warning("bytes of %s could not be sent: %s", chunk.key, error)
    return [chunk.pack_head(), *found]
