"""Where a stage's seconds go."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by part. Parts that lie within another are counted in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block towards `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
