"""The parameter server of `asynchronous`: a process that holds the weights and applies gradients in the order in which they come."""

import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener, wait
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from slimline.params.fit import Fit
from slimline.registry import build
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.parallel.arrangement import END
from slimline.runtime.updates import Updates

PULL, PUSH, CLAIM, OPEN, STATE, LOAD, REPORT = "pull", "push", "claim", "open", "state", "load", "report"


@dataclass(frozen=True)
class Group:
    """Parameters that are decayed alike: their shapes, the decay, the learning rate at its full height."""

    shapes: list[tuple[int, ...]]
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
        self.next, self.tickets = 0, 0
        self.wish = 0
        self.staleness: Counter[int] = Counter()

    def answer(self, what: str, content: Any) -> Any:
        """What a worker gets for a message."""
        answers: dict[str, Callable[[Any], Any]] = {
            PULL: self._pull,
            PUSH: self._push,
            CLAIM: self._claim,
            OPEN: self._open,
            STATE: self._state,
            LOAD: self._load,
            REPORT: self._report,
        }
        return answers[what](content)

    def _pull(self, _content: None) -> tuple[int, int, Tensor, Tensor | None]:
        average = self.updates.average
        moved = None if average is None else parameters_to_vector(average.module.parameters()).detach()
        return self.updates.done, self.wish, parameters_to_vector(self.updates.parameters).detach(), moved

    def _push(self, content: tuple[int, int, Tensor]) -> tuple[int, int, Tensor, Tensor | None]:
        version, wish, gradient = content
        self.staleness[self.updates.done - version] += 1
        self.wish = max(self.wish, wish if wish == END else 0)
        offset = 0
        for parameter in self.updates.parameters:
            parameter.grad = gradient[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
        self.updates.apply()
        return self._pull(None)

    def _claim(self, _content: None) -> int | None:
        if self.next >= self.tickets:
            return None
        self.next += 1
        return self.next - 1

    def _open(self, tickets: int) -> None:
        self.next, self.tickets = 0, tickets

    def _state(self, _content: None) -> dict[str, Any]:
        return {"server": self.updates.state(), "vector": self._pull(None)[2], "next": self.next}

    def _load(self, content: dict[str, Any]) -> None:
        if content["updates"] is not None:
            self.updates.load(content["updates"])
            self.next = content["next"]
        vector_to_parameters(content["vector"], self.updates.parameters)

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
