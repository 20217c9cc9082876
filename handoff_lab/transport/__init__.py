"""ZeroMQ: the loop, CURVE keys, sockets, and what crosses them."""
