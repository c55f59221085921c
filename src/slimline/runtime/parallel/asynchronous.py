"""Asynchronous gradient descent over a parameter server (Dean et al., "Large Scale Distributed Deep Networks", 2012: Downpour SGD)."""

import multiprocessing
import os
import secrets
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.core.objective import Objective
from slimline.data.shuffled import Shuffled
from slimline.params.hardware import Hardware
from slimline.runtime.parallel.arrangement import END, Arrangement
from slimline.runtime.parallel.server import CLAIM, LOAD, OPEN, PULL, PUSH, REPORT, STATE, WISH, Group, at_once, hear, serve, tell
from slimline.runtime.parallel.vector import spread, vector
from slimline.runtime.updates import Updates
from slimline.runtime.world import World


class Asynchronous(Arrangement):
    """Workers compute gradients of parts of batches; a server in a process of its own applies each one when it comes.

    No worker waits for another: each claims the next part of the epoch that nobody has, takes the weights as they stand, and pushes its
    gradient, which meets weights that others have moved meanwhile. How many updates that were is the gradient's staleness. Workers meet
    where an epoch ends, to validate the same weights.

    A part is a batch cut by the number of workers, and each update is that much smaller, so that an epoch moves the weights as far
    as a synchronous one does. The course of events decides the result: no two runs give the same bytes.
    """

    unfit = frozenset({"fit.precision 16"})  # the server would have to know how each worker had scaled its loss

    def __init__(self, world: World, hardware: Hardware) -> None:
        super().__init__(world, hardware)
        self.updates_a_step = world.ranks
        self._claimed: deque[int] = deque()
        self._version = 0
        self._ticket = 0
        self._agreed = 0
        self._parts = 0

    def begin(self, updates: Updates, network: nn.Module, objective: Objective) -> None:
        self._updates = updates
        # The first process's machine is where all have met; its own name may lead elsewhere.
        host = os.environ["MASTER_ADDR"] if self.world.ranks > self.world.local_ranks else "127.0.0.1"
        meeting: Any = None
        if self.world.first:
            latent = {id(weight) for weight in updates.latent}
            groups = [
                Group(
                    [tuple(p.shape) for p in group["params"]],
                    [id(p) in latent for p in group["params"]],
                    group["weight_decay"],
                    rate / self.world.ranks,
                )
                for group, rate in zip(updates.optimizer.param_groups, updates.rates, strict=True)
            ]
            meeting = _started_server(host, groups, updates, self.world.ranks)
        if updates.average is not None:
            # The server's order is the optimizer's; weights of the objective have no average, so that their place is filled by themselves.
            twins = dict(zip(map(id, updates.model.parameters()), updates.average.module.parameters(), strict=True))
            self._averaged: list[Tensor] = [twins.get(id(p), p.detach().clone()) for p in updates.parameters]
        address, key = self.world.firsts(meeting)
        self._server: Connection[Any, Any] = Client(address, authkey=key)
        at_once(self._server)
        if self.world.first:
            self._ask(LOAD, {"vector": vector(updates.parameters).cpu()})
            self._ask(OPEN, self._parts)
        self._everyone()
        self._pull()

    def loader(self, train: Shuffled) -> Any:
        return _Claims(train, self)

    def claims(self) -> Iterator[tuple[int, int]]:
        """Step and part of what this worker is to do next, until the epoch's are all taken."""
        while (ticket := self._ask(CLAIM, None)) is not None:
            self._claimed.append(ticket)
            yield divmod(ticket, self.world.ranks)

    def open(self, tickets: int) -> None:
        """An epoch of so many parts begins."""
        self._parts = tickets

    def step_of(self, index: int) -> int:
        self._ticket = self._claimed.popleft()
        return self._ticket // self.world.ranks

    def step(self, updates: Updates, batch: Batch, weight: float, backward: Any) -> Tensor:
        loss = updates.loss(batch)
        backward(loss if weight == 1.0 else loss * weight)
        gradient = vector(p.grad if p.grad is not None else torch.zeros_like(p) for p in updates.parameters)
        updates.optimizer.zero_grad()
        part = float(loss) * weight / self.world.ranks
        self._take(self._ask(PUSH, (self._version, self._ticket, part, gradient.cpu())))
        return loss.detach()

    def agree(self, wish: int) -> int:
        if wish == END:
            self._agreed = self._ask(WISH, wish)
        # A checkpoint of the server's weights is the first process's affair. The end is everyone's: who has nothing left to do waits for
        # the others where they meet, and learns of it there.
        return self.meet(END) if self._agreed == END else wish

    def equalize(self, updates: Updates) -> None:
        self._everyone()
        if self.world.first:
            self._ask(OPEN, self._parts)
        self._pull()
        if updates.average is not None:  # the server averages weights; statistics of batch norms it has none
            for average, value in zip(updates.average.module.buffers(), updates.model.buffers(), strict=True):
                average.copy_(value)
        self.share_buffers(updates)

    def losses(self, own: float) -> list[float]:
        # Nobody waits for the others to tell theirs: the server knows the sum, and it does not matter whose share of it is whose.
        return [self._ask(STATE, None)["loss"] / self.world.ranks] * self.world.ranks if self.world.first else []

    def state(self, updates: Updates) -> dict[str, Any]:
        return {**updates.state(), "server": self._ask(STATE, None)} if self.world.first else {}

    def load(self, updates: Updates, state: dict[str, Any] | None) -> None:
        if state is not None:
            self._ask(LOAD, state["server"])
        shared = self.world.firsts(None if state is None else {name: state[name] for name in ("model", "objective", "average")})
        updates.model.load_state_dict(shared["model"])
        updates.objective.load_state_dict(shared["objective"])
        if updates.average is not None:
            updates.average.load_state_dict(shared["average"])
        self._pull()

    def settle(self) -> None:
        self._everyone()
        self._report = self._ask(REPORT, None)
        self._server.close()

    def report(self) -> dict[str, Any]:
        return {"staleness": self._report}

    def _everyone(self) -> None:
        if not self.world.alone:
            dist.barrier()

    def _ask(self, what: str, content: Any) -> Any:
        tell(self._server, (what, content))
        return hear(self._server)

    def _pull(self) -> None:
        self._take(self._ask(PULL, None))

    def _take(self, answer: tuple[int, int, Tensor, Tensor | None]) -> None:
        self._version, self._agreed, weights, average = answer
        updates = self._updates
        spread(weights.to(self.device), updates.parameters)
        updates.done = self._version
        if average is not None:
            spread(average.to(self.device), self._averaged)


class _Claims:
    """The batches that a worker claims, as Lightning wants them: as many as all workers have together, None for those of the others."""

    def __init__(self, train: Shuffled, arrangement: Asynchronous) -> None:
        self.train, self.arrangement = train, arrangement
        arrangement.open(len(self))

    def __len__(self) -> int:
        return len(self.train) * self.train.ranks

    def __iter__(self) -> Iterator[Batch | None]:
        mine = 0
        for batch in self.train.parts(self.arrangement.claims()):
            mine += 1
            yield batch
        yield from [None] * (len(self) - mine)


def _started_server(host: str, groups: list[Group], updates: Updates, workers: int) -> tuple[Any, bytes]:
    """Start the server; its address, and the word that it lets workers in by."""
    key = secrets.token_bytes(16)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    fit = updates.fit
    if fit.ema is not None:
        fit = fit.model_copy(update={"ema": fit.ema ** (1 / workers)})  # as many more updates must forget as much
    process = context.Process(target=serve, args=(theirs, host, key, workers, groups, fit, updates.steps * workers), daemon=True)
    process.start()
    theirs.close()  # else a server that died would be waited for
    return ours.recv(), key
