"""Pipeline model parallelism (Huang et al., "GPipe", 2019): each process holds a stretch of the network's layers."""

import operator
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, fx, nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

from slimline.core.batch import Batch
from slimline.core.binary import BinaryLayer
from slimline.core.objective import Objective
from slimline.errors import SlimlineError
from slimline.params.hardware import Hardware
from slimline.runtime.parallel.arrangement import READS_LAYERS, Divided, copied
from slimline.runtime.updates import Updates
from slimline.runtime.world import World

DIMENSIONS = 8
"""Most dimensions of what passes from one process to the next."""


class Pipeline(Divided):
    """The layers are cut into as many stretches as there are processes, of as even a number of parameters as the network allows.

    All processes see every image; activations go forward from one to the next, gradients back.

    Args:
        micro_batches: into how many equal parts a batch is cut, so that the processes work at the same time; 1 is exact for batch norms,
            which otherwise see a part at a time. A batch that does not divide goes through as one.
    """

    unfit = Divided.unfit | {READS_LAYERS}

    def __init__(self, world: World, hardware: Hardware, *, micro_batches: Annotated[int, Field(ge=1)] = 1) -> None:
        super().__init__(world, hardware)
        self.micro_batches = micro_batches
        self._schedules: dict[tuple[int, ...], ScheduleGPipe] = {}
        self._objective: Any = None
        self._part: nn.Module | None = None

    @property
    def share(self) -> dict[str, int]:
        return {"rank": 0, "ranks": 1}

    @property
    def _last(self) -> bool:
        return self.world.rank == self.world.ranks - 1

    def divide(self, model: nn.Module) -> None:
        self._part = cut(model, self.world.ranks)[self.world.rank]
        own = {id(p) for p in self._part.parameters()}
        for parameter in model.parameters():
            if id(parameter) not in own:
                parameter.requires_grad_(False)
                parameter.data = parameter.data.new_empty(0)
        held = {id(tensor) for tensor in (*self._part.parameters(), *self._part.buffers())}
        self._owned = {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in held}

    def begin(self, updates: Updates, network: nn.Module, objective: Objective) -> None:
        super().begin(updates, network, objective)
        if self.world.alone:
            return
        self._objective = objective
        updates.whole_norm = self._whole_norm

    def _whole_norm(self, norm: Tensor) -> Tensor:
        return self.world.summed(norm.square()).sqrt()

    def step(self, updates: Updates, batch: Batch, weight: float, backward: Any) -> Tensor:
        if self.world.alone:
            return super().step(updates, batch, weight, backward)
        assert self._part is not None
        self._batch = batch = updates.typed(batch)
        images, labels = batch.images, batch.labels
        parts = self.micro_batches if len(images) % self.micro_batches == 0 else 1
        schedule = self._schedule(tuple(images.shape), parts)
        losses: list[Tensor] = []
        given = (images,) if self.world.first else ()
        if self._last:
            schedule.step(*given, target=labels, losses=losses)
        else:
            schedule.step(*given)
        updates.apply()
        # The last process has the loss; what the others add to the sum is nothing.
        return torch.stack(losses).mean().detach() if self._last else torch.zeros((), dtype=updates.dtype, device=self.device)

    def _schedule(self, shape: tuple[int, ...], parts: int) -> ScheduleGPipe:
        if shape not in self._schedules:  # a pipeline is made for one shape
            assert self._part is not None
            stage = PipelineStage(_Probed(self._part), self.world.rank, self.world.ranks, self.device)
            self._schedules[shape] = ScheduleGPipe(stage, n_microbatches=parts, loss_fn=self._loss)
        return self._schedules[shape]

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        # A micro-batch's labels are a view of the batch's, so where they start says which images are theirs. (The schedule also calls
        # this once beforehand, to learn shapes.)
        images, every, samples, view = self._batch
        start = (labels.storage_offset() - every.storage_offset()) // every.stride(0)
        part = slice(start, start + len(labels))
        loss: Tensor = self._objective(Batch(images[part], labels, samples[part], view), lambda _: logits)
        return loss

    def logits(self, model: nn.Module, images: Tensor) -> Tensor | None:
        if self.world.alone:
            return super().logits(model, images)
        assert self._part is not None
        values = images if self.world.first else self._receive(images)
        values = self._part(values)
        if self._last:
            return values
        shape = torch.zeros(DIMENSIONS, dtype=torch.int64)
        shape[: values.ndim] = torch.tensor(values.shape)
        dist.send(shape, self.world.rank + 1)
        dist.send(values.contiguous(), self.world.rank + 1)
        return None

    def _receive(self, like: Tensor) -> Tensor:
        shape = torch.zeros(DIMENSIONS, dtype=torch.int64)
        dist.recv(shape, self.world.rank - 1)
        # No dimension of a batch is empty but the first, whose zero is the empty batch's.
        last = max(index for index, size in enumerate(shape.tolist()) if size or index == 0)
        values = like.new_empty(shape[: last + 1].tolist())
        dist.recv(values, self.world.rank - 1)
        return values

    def whole(self, model: nn.Module) -> dict[str, Tensor]:
        if self.world.alone:
            return super().whole(model)
        own = model.state_dict()
        parts = self.world.gathered({name: copied(tensor) for name, tensor in own.items() if name in self._owned})
        merged = {name: tensor for part in parts for name, tensor in part.items()}
        return {name: merged[name] if name in merged else copied(tensor) for name, tensor in own.items()} if self.world.first else {}


class _Probed(nn.Module):
    """A stretch of layers for one schedule, which calls it once beforehand on numbers that nobody has set, to learn shapes.

    That call leaves no trace: neither in the statistics of batch norms nor in what dropout draws next.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self._probed = False

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor
        if self._probed:
            result = self.part(values)
            return result
        self._probed = True
        # Zeros instead, which the gradient still passes: numbers that nobody has set may be no numbers, which have no sign.
        values = torch.where(torch.zeros_like(values, dtype=torch.bool), values, torch.zeros_like(values))
        with torch.random.fork_rng():
            result = torch.func.functional_call(self.part, {name: buffer.clone() for name, buffer in self.part.named_buffers()}, (values,))
        return result


class _Tracer(fx.Tracer):
    """A binary layer stays whole: what it computes depends on whether it is being trained."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, BinaryLayer) or super().is_leaf_module(module, name)


def cut(model: nn.Module, parts: int) -> list[nn.Module]:
    """`model` as a chain of `parts` modules that share its layers, the largest number of parameters among them as small as can be.

    It is cut only where one tensor alone goes from what lies before to what lies behind.

    Raises:
        SlimlineError: its forward pass has no fixed graph, or fewer places to cut than are needed.
    """
    try:
        graph = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # torch.fx raises whatever the user's forward raises on a proxy
        raise SlimlineError(f"{type(model).__name__} cannot be traced, so it cannot be cut: {' '.join(str(error).split())}") from error
    nodes = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
    sizes = _sizes(graph, nodes)
    places = [place for place in range(1, len(nodes)) if len(_crossing(graph, nodes, place)) == 1]
    ends = _balanced(sizes, places, parts)
    if ends is None:
        raise SlimlineError(f"{type(model).__name__} can be cut into {len(places) + 1} parts with weights at most, fewer than the {parts} processes")
    edges = [0, *ends, len(nodes)]
    (source,) = (node for node in graph.graph.nodes if node.op == "placeholder")
    chain: list[nn.Module] = []
    for low, high in pairwise(edges):
        result = _crossing(graph, nodes, high)[0] if high < len(nodes) else graph.graph.output_node().args[0]
        assert isinstance(result, fx.Node)
        chain.append(_stretch(graph, nodes[low:high], source, result))
        source = result
    return chain


def _stretch(graph: fx.GraphModule, nodes: list[fx.Node], source: fx.Node, result: fx.Node) -> fx.GraphModule:
    """`nodes` of `graph` as a module of their own, from the value of `source` to that of `result`; its layers are those of `graph`."""
    part = fx.Graph()
    values = {source: part.placeholder("values")}

    def value(node: fx.Node) -> fx.Node:
        if node not in values:  # a constant, which is taken where it is needed
            values[node] = part.node_copy(node)
        return values[node]

    for node in nodes:
        if node.op != "get_attr":
            values[node] = part.node_copy(node, value)
    part.output(value(result))
    return fx.GraphModule(graph, part)


def _sizes(graph: fx.GraphModule, nodes: list[fx.Node]) -> list[int]:
    """Parameters that each node is the first to use."""
    seen: set[int] = set()
    sizes = []
    for node in nodes:
        match node.op:
            case "call_module":
                parameters = list(graph.get_submodule(str(node.target)).parameters())
            case "get_attr":
                found = operator.attrgetter(str(node.target))(graph)
                parameters = [found] if isinstance(found, nn.Parameter) else []
            case _:
                parameters = []
        sizes.append(sum(p.numel() for p in parameters if id(p) not in seen))
        seen |= {id(p) for p in parameters}
    return sizes


def _crossing(graph: fx.GraphModule, nodes: list[fx.Node], place: int) -> list[fx.Node]:
    """What is made before `nodes[place]` and used from there on, constants aside."""
    number = {node: index for index, node in enumerate(nodes)}
    made = [node for node in graph.graph.nodes if node.op not in ("get_attr", "output") and number.get(node, -1) < place]
    return [node for node in made if any(number.get(user, len(nodes)) >= place for user in node.users)]


def _balanced(sizes: list[int], places: list[int], parts: int) -> list[int] | None:
    """The `parts - 1` of `places` that make the largest sum of `sizes` between them smallest, no part being empty; None where there are none."""
    edges = [0, *places, len(sizes)]
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)
    # best[k][e]: the smallest largest part, and the cut before it, when what lies before edges[e] is in k parts.
    best: list[dict[int, tuple[int, int]]] = [{0: (0, 0)}]
    for _ in range(parts):
        found: dict[int, tuple[int, int]] = {}
        for e in range(1, len(edges)):
            choices = [
                (max(largest, sums[edges[e]] - sums[edges[b]]), b)
                for b, (largest, _) in best[-1].items()
                if b < e and sums[edges[e]] > sums[edges[b]]
            ]
            if choices:
                found[e] = min(choices)
        best.append(found)
    edge = len(edges) - 1
    if edge not in best[parts]:
        return None
    ends = []
    for k in range(parts, 1, -1):
        edge = best[k][edge][1]
        ends.append(edges[edge])
    return ends[::-1]
