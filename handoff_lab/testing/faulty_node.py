"""``python -m handoff_lab.testing.faulty_node SEED --join FILE ...``: a node whose messages meet faults.

It has no mailbox, so that values cross its sockets too. At its end it prints which kinds of messages met faults.
"""

from __future__ import annotations

import json
import sys
from unittest.mock import patch

from handoff_lab.node.__main__ import main
from handoff_lab.testing.faults import Faults, faulty_sockets
from handoff_lab.transport.peers import Peers

if __name__ == "__main__":
    faults = Faults(int(sys.argv.pop(1)))
    with faulty_sockets(faults), patch.object(Peers, "open_mailbox", lambda peers, path: None):
        code = main()
    sys.stdout.write(json.dumps(sorted({kind for kind, _ in faults.counts})))
    sys.exit(code)
