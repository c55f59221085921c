"""The parameter server of `asynchronous`: a process that holds the weights and applies gradients in the order in which they come."""

import os
import pickle
import socket
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener, wait
from typing import Any

import torch
from torch import Tensor, nn

from slimline.params.fit import Fit
from slimline.registry import build
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.parallel.vector import spread, vector
from slimline.runtime.stopping import end_with
from slimline.runtime.updates import Updates

PULL, PUSH, WISH, CLAIM, OPEN, STATE, LOAD, REPORT = "pull", "push", "wish", "claim", "open", "state", "load", "report"


@dataclass(frozen=True)
class Group:
    """Parameters that are decayed alike: their shapes, the decay, the learning rate at its full height.

    Args:
        latent: which of them are latent weights of binary layers, that are clipped.
    """

    shapes: list[tuple[int, ...]]
    latent: list[bool]
    weight_decay: float
    rate: float


class _Weights(nn.Module):
    """Parameters and nothing else."""

    def __init__(self, groups: list[Group], dtype: torch.dtype) -> None:
        super().__init__()
        self.values = nn.ParameterList(nn.Parameter(torch.zeros(shape, dtype=dtype)) for group in groups for shape in group.shapes)


class Server:
    """Weights, and what every worker may ask of them.

    Args:
        updates: of the whole training: where the schedule ends.
    """

    def __init__(self, groups: list[Group], fit: Fit, updates: int) -> None:
        self.weights = _Weights(groups, torch.float64 if fit.precision == 64 else torch.float32)
        values, settings = iter(self.weights.values), []
        for group in groups:
            parameters = [next(values) for _ in group.shapes]
            settings.append({"params": parameters, "weight_decay": group.weight_decay, "lr": group.rate})
        optimizer = build(OPTIMIZERS, fit.optimizer, settings)
        # It applies gradients that others compute, so any objective without parameters will do.
        self.updates = Updates(self.weights, LabelsAlone(0.0), optimizer, fit.model_copy(update={"compile": False}), updates, torch.device("cpu"))
        latent = [one for group in groups for one in group.latent]
        self.updates.latent = [values for values, one in zip(self.weights.values, latent, strict=True) if one]
        self.opened = 0
        self.left: deque[int] = deque()
        self.claimed: set[int] = set()  # and not yet pushed
        self.wish = 0
        self.loss = 0.0  # of the epoch's parts
        self.staleness: Counter[int] = Counter()

    def answer(self, what: str, content: Any) -> Any:
        """What a worker gets for a message."""
        answers: dict[str, Callable[[Any], Any]] = {
            PULL: self._pull,
            PUSH: self._push,
            WISH: self._wish,
            CLAIM: self._claim,
            OPEN: self._open,
            STATE: self._state,
            LOAD: self._load,
            REPORT: self._report,
        }
        return answers[what](content)

    def _pull(self, _content: None) -> tuple[int, int, Tensor, Tensor | None]:
        average = self.updates.average
        moved = None if average is None else vector(average.module.parameters())
        return self.updates.done, self.wish, vector(self.updates.parameters), moved

    def _push(self, content: tuple[int, int, float, Tensor]) -> tuple[int, int, Tensor, Tensor | None]:
        version, ticket, loss, gradient = content
        self.loss += loss
        self.staleness[self.updates.done - version] += 1
        self.claimed.discard(ticket)
        offset = 0
        for parameter in self.updates.parameters:
            parameter.grad = gradient[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
        self.updates.apply()
        return self._pull(None)

    def _wish(self, wish: int) -> int:
        self.wish = max(self.wish, wish)
        return self.wish

    def _claim(self, _content: None) -> int | None:
        if self.opened:
            self.left, self.claimed, self.loss, self.opened = deque(range(self.opened)), set(), 0.0, 0
        if not self.left:
            return None
        self.claimed.add(ticket := self.left.popleft())
        return ticket

    def _open(self, tickets: int) -> None:
        # With the first claim, not before: a checkpoint of the validation between two epochs is one of the epoch that has ended.
        self.opened = tickets

    def _state(self, _content: None) -> dict[str, Any]:
        # What is claimed and not yet pushed is lost with who has claimed it, and is to be done again.
        left = [*sorted(self.claimed), *self.left]
        return {"updates": self.updates.state(), "left": left, "loss": self.loss, "staleness": dict(self.staleness)}

    def _load(self, content: dict[str, Any]) -> None:
        """The state of an earlier server, or the weights to begin with."""
        if "vector" in content:
            spread(content["vector"], self.updates.parameters)
            return
        self.updates.load(content["updates"])
        self.opened, self.left, self.claimed = 0, deque(content["left"]), set()
        self.loss, self.staleness = content["loss"], Counter(content["staleness"])

    def _report(self, _content: None) -> dict[int, int]:
        return dict(sorted(self.staleness.items()))


def at_once(connection: Connection) -> None:
    """Have `connection` (over TCP) send what it is given without waiting for more.

    A message of more than 16 KiB is written as a length and a content, and the system would keep the content back until the length is
    acknowledged, some 40 ms later.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def tell(connection: Connection, value: Any) -> None:
    """Send `value`. Not by `connection.send`, for which torch shares memory that another machine cannot see."""
    connection.send_bytes(pickle.dumps(value, protocol=5))


def hear(connection: Connection) -> Any:
    """What the other side has told; both know the same secret, or there would be no connection."""
    return pickle.loads(connection.recv_bytes())


def serve(parent: Connection, host: str, key: bytes, workers: int, groups: list[Group], fit: Fit, updates: int) -> None:
    """The server's process: it tells `parent` its address, lets `workers` of them in, and ends when the last one has left.

    Args:
        key: what a worker must know.
        updates: of the whole training.
    """
    os.setsid()  # out of reach of signals to the whole group: workers that are asked to end still want its weights
    end_with([os.getppid()])
    torch.set_num_threads(1)
    server = Server(groups, fit, updates)
    with Listener((host, 0), backlog=workers, authkey=key) as listener:
        parent.send(listener.address)
        connections = [listener.accept() for _ in range(workers)]
    for accepted in connections:
        at_once(accepted)
    while connections:
        for connection in wait(connections):
            assert isinstance(connection, Connection)
            try:
                tell(connection, server.answer(*hear(connection)))
            except (EOFError, ConnectionError):
                connections.remove(connection)
