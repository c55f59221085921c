"""What passes between a worker and the parameter server."""

import threading
import time
from multiprocessing.connection import Client, Listener

import numpy as np
import torch

from slimline.runtime.parallel.server import at_once, hear, tell

LARGE = 11_000
"""Numbers of a message that is written in two pieces."""


def test_a_large_gradient_is_answered_sooner_than_a_delayed_acknowledgement() -> None:
    with Listener(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            with listener.accept() as connection:
                at_once(connection)
                for _ in range(20):
                    tell(connection, hear(connection))

        server = threading.Thread(target=echo)
        server.start()
        seconds = []
        with Client(listener.address) as connection:
            at_once(connection)
            for _ in range(20):
                start = time.perf_counter()
                tell(connection, torch.zeros(LARGE))
                assert len(hear(connection)) == LARGE
                seconds.append(time.perf_counter() - start)
        server.join()
    assert np.median(seconds) < 0.030
