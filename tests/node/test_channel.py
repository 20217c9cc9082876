"""Messages over a socket: whole, in order, whatever their sizes and however they are cut."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.node import channel as channel_module
from handoff_lab.node.channel import Channel, Message, Receiver, pack, pair, send
from handoff_lab.transport.loop import Loop

frames = st.lists(st.binary(max_size=40) | st.just(b"x" * 40_000), max_size=4)
messages = st.lists(st.tuples(st.lists(st.integers(0, 9) | st.text(max_size=5), max_size=3), frames), max_size=6)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = pair()
    yield one, other
    one.close()
    other.close()


def plain(received: list[Message]) -> list[tuple[list[object], list[bytes]]]:
    return [(message.fields, [bytes(frame) for frame in message.frames]) for message in received]


@given(messages, st.integers(1, 5000), st.sampled_from([64, 1000, 256 * 1024]))
def test_what_was_sent_arrives(sent: list[tuple[list[object], list[bytes]]], cut: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_module, "_CHUNK", chunk)
        data = b"".join(bytes(part) for fields, parts in sent for part in pack(fields, parts))
        one, other = pair()
        with one, other:
            receiver = Receiver(other)
            got: list[Message] = []
            for start in range(0, len(data), cut * 20):
                one.sendall(data[start : start + cut * 20])
                other.setblocking(False)
                try:
                    while True:
                        got += receiver.receive()
                except BlockingIOError:
                    pass
        assert plain(got) == [(list(fields), parts) for fields, parts in sent]


def test_the_end_of_the_stream_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.close()
    with pytest.raises(EOFError):
        Receiver(other).receive()


def test_descriptors_come_with_their_message(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    read, write = os.pipe()
    send(one, ["without"])
    send(one, ["with"], [b"frame"], [write])
    receiver = Receiver(other)
    received = receiver.receive()
    while len(received) < 2:
        received += receiver.receive()
    assert [message.fields for message in received] == [["without"], ["with"]]
    assert [len(message.fds) for message in received] == [0, 1]
    os.write(received[1].fds[0], b"it works")
    assert os.read(read, 100) == b"it works"
    for fd in (read, write, received[1].fds[0]):
        os.close(fd)


def test_a_channel_never_blocks_and_sends_all_in_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    loop = Loop()
    got: list[Message] = []
    ended: list[bool] = []
    sender = Channel(loop, one, got.append, lambda: None)
    receiver = Channel(loop, other, got.append, lambda: ended.append(True))
    large = os.urandom(3_000_000)
    for number in range(5):
        sender.send(["big", number], [large, b"small"])
    while len(got) < 5:
        loop.run_once()
    assert plain(got) == [(["big", number], [large, b"small"]) for number in range(5)]
    sender.close()
    while not ended:
        loop.run_once()
    receiver.close()
    loop.close()


def test_what_is_sent_to_one_who_is_gone_is_dropped(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    loop = Loop()
    ended: list[bool] = []
    channel = Channel(loop, one, lambda message: None, lambda: ended.append(True))
    other.close()
    channel.send(["hello"], [b"x" * 1_000_000])
    while not ended:
        loop.run_once()
    channel.close()
    loop.close()
