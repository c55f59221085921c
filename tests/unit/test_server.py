"""What passes between a worker and the parameter server."""

import os
import socket
import threading
from multiprocessing.connection import Client, Connection, Listener

import torch

from slimline.runtime.parallel.server import at_once, hear, tell


def no_delay(connection: Connection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        return same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_messages_of_any_size_arrive_whole_and_are_not_kept_back() -> None:
    """More than 16 KiB go out in two pieces, the second of which would wait for an acknowledgement."""
    with Listener(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            with listener.accept() as connection:
                for _ in range(3):
                    tell(connection, hear(connection))

        server = threading.Thread(target=echo)
        server.start()
        with Client(listener.address) as connection:
            assert not no_delay(connection)
            at_once(connection)
            assert no_delay(connection)
            for size in (0, 1, 11_000):
                sent = torch.arange(size, dtype=torch.float64)
                tell(connection, ("push", sent))
                what, content = hear(connection)
                assert what == "push"
                assert torch.equal(content, sent)
        server.join()
