"""A network with binary layers as it runs on packed bits: layers that read ±1 pass each other bits, the rest is computed by torch.

A binary layer that reads ±1 counts (`core.xnor`). What follows it up to the next such layers is folded into its thresholds where each step
keeps order within a channel: its scaling factor and bias, batch norm, hard tanh, ReLU; a maximum over windows becomes an OR of bits (an AND
where a negative scale turned the order round), and flattening the order of the next layer's weights. The thresholds are found by asking those
very modules for the sign of every sum that matters (`core.xnor.thresholds_of`), so they include torch's rounding. Where something else
follows (a sum of two branches, an average, the logits), the sums go on as real numbers. A fully connected first layer of ±1 reads the bits
of 8-bit pixels, and adds exactly what torch adds in 32-bit floats.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from slimline.core import xnor
from slimline.core.binary import BinaryConv2d, BinaryLayer, BinaryLinear, scaled, sign
from slimline.core.normalize import Normalize
from slimline.core.popcount import ROWS, SHARE, spread, worth
from slimline.core.quantized import SHAPE_FUNCTIONS, SHAPE_METHODS, is_kind, traced
from slimline.errors import SlimlineError
from slimline.export.runtime import Deployed, Images, Logits, check_images
from slimline.export.session import check_threads

ORDERLY = (nn.Hardtanh, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh)
"""Modules that keep the order of numbers, whatever their place."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""Modules that keep or turn the order of numbers of one channel, in eval mode."""


TOGETHER = 2**20
"""Real numbers between two layers that a processor's caches hold; larger batches are computed in parts."""


@dataclass(frozen=True)
class Layout:
    """How bits lie that stand for a tensor [batch channels height width], or for its flattened form."""

    channels: int
    height: int = 1
    width: int = 1


Values = dict[str, Any]
"""What is known while a batch runs: what torch computed by the name of its node, bits by `bits_of` that name."""


def bits_of(node: fx.Node) -> str:
    return f"{node.name} as bits"


@dataclass(frozen=True)
class Step:
    """One call: what it reads, what it makes."""

    reads: tuple[str, ...]
    makes: str
    run: Callable[..., Any]
    """Takes the number of threads, and what it reads."""


Watch = Callable[[Step, Callable[[], None]], None]

REAL = 16
"""Binary multiplications that take about as long as one of real numbers."""


@dataclass
class Chain:
    """What stands between a binary layer and those that read its signs.

    Args:
        nodes: in their order.
        steps: modules that keep order, and pools, in theirs.
        end: the node whose signs are read.
    """

    nodes: list[fx.Node] = field(default_factory=list)
    steps: list[nn.Module] = field(default_factory=list)
    end: fx.Node | None = None


class XnorModel(Deployed):
    """A network with binary layers ready to run on bits. `threads` threads share the images or, where these are few, each layer."""

    runtime = "xnor"

    def __init__(self, model: nn.Module, input_shape: tuple[int, int, int], *, threads: int) -> None:
        """
        Raises:
            SlimlineError: a network with no binary layer that reads ±1, or one that cannot be traced; a number of threads that nothing runs with.
        """
        check_threads(threads)
        self._graph, self._threads, self.input_shape = traced(model), threads, tuple(input_shape)
        self._modules = dict(self._graph.named_modules())
        with torch.no_grad():
            ShapeProp(self._graph).propagate(torch.zeros(1, *input_shape))
        if not any(self._counts(node) for node in self._graph.graph.nodes):
            raise SlimlineError("the model has no binary layer that reads ±1 and can run on bits; take runtime torch or onnxruntime")
        self._layouts: dict[str, Layout] = {}
        self.steps: list[Step] = []
        self._output = ""
        folded: set[fx.Node] = set()
        for node in self._graph.graph.nodes:
            if node in folded:
                continue
            if node.op == "output":
                self._output = node.args[0].name
            elif self._counts(node):
                folded |= self._add_binary(node)
            elif (pixels := self._pixels(node)) is not None:
                folded |= self._add_pixels(node, pixels)
            elif node.op != "placeholder":
                self._add_real(node)
        self._input = next(node.name for node in self._graph.graph.nodes if node.op == "placeholder")
        real = [math.prod(_shape(node)) for node in self._graph.graph.nodes if node.name in {step.makes for step in self.steps}]
        self._together = max(1, TOGETHER // max(real, default=1))
        sizes = {node: self._products(node) for node in self._graph.graph.nodes}
        self._size = sum(sizes.values())
        real_size = sum(size for node, size in sizes.items() if not self._counts(node) and self._pixels(node) is None)
        # Torch's threads, when they have no work, go on waiting for it on the cores that ours are then short of.
        self._torch_threads = threads if real_size > self._size / 2 else 1
        self._last = {name: place for place, step in enumerate(self.steps) for name in step.reads if name != self._output}

    def __call__(self, images: Images, *, watch: Watch | None = None) -> Logits:
        """Logits of float32 images in [0, 1].

        Args:
            watch: is given each step and what runs it, which it must call; to measure by. Threads then share each layer.

        Raises:
            SlimlineError: images of another type or shape; NaN in them, or made of them.
        """
        check_images(images, self.input_shape)
        threads = worth(self._size * len(images), SHARE, self._threads)
        if watch is not None or len(images) < threads * ROWS:  # fewer rows than a tile has would read weights for nothing
            with _torch_threads(self._torch_threads):
                return self._parts(images, self._threads, watch or (lambda _, run: run()))

        def work(first: int, last: int) -> Logits:
            torch.set_num_threads(1)  # it counts for the thread that says so, and for threads that are yet to come
            return self._parts(images[first:last], 1, lambda _, run: run())

        with _torch_threads(1):  # the last to be said is what was before
            return np.concatenate(spread(work, len(images), threads))

    def _parts(self, images: Images, threads: int, watch: Watch) -> Logits:
        """Logits of any number of images, so many at a time as the caches hold."""
        parts = [images[first : first + self._together] for first in range(0, len(images) or 1, self._together)]
        return np.concatenate([self._run(part, threads, watch) for part in parts])

    def _run(self, images: Images, threads: int, watch: Watch) -> Logits:
        values: Values = {self._input: torch.from_numpy(images)}

        def run(step: Step) -> None:
            values[step.makes] = step.run(threads, *(values[name] for name in step.reads))

        with torch.inference_mode():
            for place, step in enumerate(self.steps):
                watch(step, functools.partial(run, step))
                for name in step.reads:
                    if self._last.get(name) == place:
                        values.pop(name, None)
        logits = values[self._output]
        assert isinstance(logits, Tensor)
        return logits.numpy()

    def _products(self, node: fx.Node) -> int:
        """Binary multiplications that take as long as what `node` does with one image."""
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, nn.Conv2d | nn.Linear):
            return 0
        shape = _shape(node)
        places = shape[2:] if isinstance(module, nn.Conv2d) else shape[1:-1]
        cost = 1 if self._counts(node) else REAL if self._pixels(node) is None else xnor.PIXEL_BITS
        return module.weight.numel() * math.prod(places) * cost

    def _counts(self, node: fx.Node) -> bool:
        """Whether `node` calls a layer that runs on bits."""
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, BinaryConv2d):
            plain = module.groups == 1 and _pair(module.dilation) == (1, 1) and module.padding_mode == "zeros" and not isinstance(module.padding, str)
            return module.binarizes and plain
        return isinstance(module, BinaryLinear) and module.binarizes and len(_shape(node)) <= 3

    def _add_real(self, node: fx.Node) -> None:
        """A call of torch's."""
        inputs, modules = tuple(node.all_input_nodes), self._modules
        if node.op == "call_module" and isinstance(module := modules[str(node.target)], BinaryConv2d | BinaryLinear):
            settled = _settled(module)
            self.steps.append(Step((inputs[0].name,), node.name, lambda _, x: settled(x)))
            return

        def run(_threads: int, *found: Any) -> Any:  # tensors, but for sizes and what splits a tensor
            known = dict(zip(inputs, found, strict=True))
            args: Any = fx.node.map_arg(node.args, known.__getitem__)
            kwargs: Any = fx.node.map_arg(node.kwargs, known.__getitem__)
            match node.op:
                case "call_module":
                    return modules[str(node.target)](*args, **kwargs)
                case "call_method":
                    return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                case "call_function":
                    return node.target(*args, **kwargs)  # type: ignore[operator]
            held: Any = functools.reduce(getattr, str(node.target).split("."), self._graph)  # get_attr: a parameter or a buffer
            return held

        self.steps.append(Step(tuple(one.name for one in inputs), node.name, run))

    def _pixels(self, node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
        """Images, their normalization and the row they become, where `node` is a fully connected layer of ±1 that reads that row.

        All channels must be scaled alike, or the sums of integers would be several.
        """
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, BinaryLinear) or module.binarizes or self._chain(node).end is None:
            return None
        row = node.all_input_nodes[0]
        if not self._flattens(row) or row.all_input_nodes[0].op != "call_module":
            return None
        normal = row.all_input_nodes[0]
        normalize = self._modules[str(normal.target)]
        alike = isinstance(normalize, Normalize) and bool((normalize.scale == normalize.scale[0]).all())
        alone = len(row.users) == len(normal.users) == 1
        return (normal.all_input_nodes[0], normal, row) if alike and alone and normal.all_input_nodes[0].op == "placeholder" else None

    def _add_pixels(self, node: fx.Node, before: tuple[fx.Node, fx.Node, fx.Node]) -> set[fx.Node]:
        """A layer of ±1 that reads an image: on the bits of its pixels where they are those of 8-bit files, else by torch.

        With w the weights and u the pixels, Σ w·(scale·u / 255 + shift) is one number a column more than scale / 255 · Σ w·u.
        """
        images, normal, row = before
        layer, normalize, chain = self._modules[str(node.target)], self._modules[str(normal.target)], self._chain(node)
        assert isinstance(layer, BinaryLinear)
        assert isinstance(normalize, Normalize)
        assert chain.end is not None
        columns, length = layer.weight.shape
        scale = float(normalize.scale[0]) / 255
        shift = normalize.shift.double().expand(_shape(images)[1:]).reshape(-1)
        offset = (layer.weight.detach().double() @ shift).numpy()
        at = xnor.thresholds_of(lambda z: _one_a_channel(layer, chain.steps, scale * z + offset) >= 0, columns, 255 * length)
        product = xnor.Product(xnor.pack(layer.weight.detach().numpy()), length, at, planes=True)
        by_torch = nn.Sequential(normalize, nn.Flatten()), _settled(layer), nn.Sequential(*chain.steps)

        def run(threads: int, x: Tensor) -> np.ndarray:
            planes = xnor.pack_pixels(x.flatten(1).numpy())
            if planes is not None:
                return product(planes, threads=threads)
            for call in by_torch:
                x = call(x)
            return xnor.pack_signs(x.numpy(), threads=threads)

        self.steps = [step for step in self.steps if step.makes not in (normal.name, row.name)]
        self.steps.append(Step((images.name,), bits_of(chain.end), run))
        self._layouts[bits_of(chain.end)] = Layout(columns)
        return set(chain.nodes)

    def _add_binary(self, node: fx.Node) -> set[fx.Node]:
        """A layer that reads ±1, with all that its thresholds can hold, which is returned."""
        layer, source = self._modules[str(node.target)], node.all_input_nodes[0]
        assert isinstance(layer, BinaryConv2d | BinaryLinear)
        packed = bits_of(source)
        if packed not in self._layouts:
            self._add_packing(source)
        layout = self._layouts[packed]
        chain = self._chain(node)
        at = self._thresholds(layer, chain) if chain.end is not None else None
        count = _convolution(layer, layout, at) if isinstance(layer, BinaryConv2d) else _product(layer, layout, at)
        if chain.end is None:
            sums = _real_sums(layer)
            self.steps.append(Step((packed,), node.name, lambda threads, bits: sums(count(bits, threads))))
            return set()
        makes = bits_of(chain.end)
        pools = [_pool(layer, chain.steps, place, at) for place, step in enumerate(chain.steps) if isinstance(step, nn.MaxPool2d)]

        def run(threads: int, bits: np.ndarray) -> np.ndarray:
            bits = count(bits, threads)
            for pool in pools:
                bits = pool(bits)
            return bits

        self.steps.append(Step((packed,), makes, run))
        # The last shape before a flattening, if there is one, tells how the bits lie.
        shape = next((s for s in (_shape(one) for one in reversed([node, *chain.nodes])) if len(s) == 4), _shape(node))
        self._layouts[makes] = Layout(*shape[1:])
        return set(chain.nodes)

    def _add_packing(self, source: fx.Node) -> None:
        """The signs of real numbers."""
        shape, packed = _shape(source), bits_of(source)
        images = len(shape) == 4
        self._layouts[packed] = Layout(*shape[1:]) if images else Layout(shape[-1])

        def run(threads: int, x: Tensor) -> np.ndarray:
            return xnor.pack_images(x.numpy(), threads=threads) if images else xnor.pack_signs(x.numpy(), threads=threads)

        self.steps.append(Step((source.name,), packed, run))

    def _chain(self, node: fx.Node) -> Chain:
        """What follows `node` until its signs are read by binary layers alone; without an end where that does not happen."""
        chain, here = Chain(), node
        while len(_shape(node)) != 3:  # a row of tokens goes on as real numbers
            users = list(here.users)
            if users and all(self._counts(user) for user in users):
                chain.end = here
                break
            if len(users) != 1:
                break
            here = users[0]
            module = self._modules.get(str(here.target)) if here.op == "call_module" else None
            pools = isinstance(module, nn.MaxPool2d) and _poolable(module)
            if pools or isinstance(module, ORDERLY) or (isinstance(module, NORMS) and len(_shape(here)) == len(_shape(node))):
                assert module is not None
                chain.steps.append(module)
            elif not self._flattens(here):
                break
            chain.nodes.append(here)
        return chain

    def _flattens(self, node: fx.Node) -> bool:
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        moves = is_kind(node, self._modules, (nn.Flatten,), SHAPE_FUNCTIONS, SHAPE_METHODS)
        return moves and len(node.all_input_nodes) == 1 and after in (before, (1, math.prod(before[1:])))

    def _thresholds(self, layer: BinaryLayer, chain: Chain) -> xnor.Thresholds:
        steps = [step for step in chain.steps if not isinstance(step, nn.MaxPool2d)]
        return xnor.thresholds_of(lambda z: _one_a_channel(layer, steps, z) >= 0, layer.weight.shape[0], layer.weight[0].numel())


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Torch computes with so many threads what this thread asks of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Of the tensor that `node` gives for one image; () where it gives something else, as `x.shape[0]` does."""
    made = node.meta.get("tensor_meta")
    return tuple(made.shape) if isinstance(made, TensorMetadata) else ()


def _poolable(module: nn.MaxPool2d) -> bool:
    square = isinstance(module.kernel_size, int) and isinstance(module.stride, int) and isinstance(module.padding, int)
    return square and module.dilation == 1 and not module.return_indices


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@torch.no_grad()
def _one_a_channel(layer: BinaryLayer, steps: Sequence[nn.Module], z: np.ndarray) -> np.ndarray:
    """What `layer` and `steps` make of one sum a channel, in 32 bits."""
    shape = (1, -1, 1, 1) if isinstance(layer, BinaryConv2d) else (1, -1)
    x = scaled(layer, torch.from_numpy(z.astype(np.float32)).reshape(shape), shape[1:])
    for step in steps:
        x = step(x)
    return x.reshape(-1).numpy()


def _convolution(layer: BinaryConv2d, layout: Layout, at: xnor.Thresholds | None) -> Callable[[np.ndarray, int], np.ndarray]:
    assert not isinstance(layer.padding, str)  # see `_counts`
    geometry = xnor.Geometry(layout.height, layout.width, _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), 0)
    filters = xnor.pack(np.moveaxis(layer.weight.detach().numpy(), 1, 3))
    convolution = xnor.Convolution(filters, layout.channels, geometry, at)
    return lambda bits, threads: convolution(bits, threads=threads)


def _product(layer: BinaryLinear, layout: Layout, at: xnor.Thresholds | None) -> Callable[[np.ndarray, int], np.ndarray]:
    weight = layer.weight.detach().numpy()
    taps = weight.reshape(len(weight), layout.channels, -1).transpose(0, 2, 1)
    product = xnor.Product(xnor.pack(taps), layout.channels, at)

    def run(bits: np.ndarray, threads: int) -> np.ndarray:
        sums = product(bits.reshape(-1, product.weights.panels.shape[1]), threads=threads)
        return sums.reshape(*bits.shape[:2], -1) if bits.ndim == 3 else sums

    return run


def _settled(layer: BinaryLayer) -> Callable[[Tensor], Tensor]:
    """`layer` with its signs taken once, as torch computes it on real numbers."""
    weight = sign(layer.weight.detach())
    if isinstance(layer, BinaryConv2d):
        read, shape, run = layer.binarizes, (-1, 1, 1), layer._conv_forward
        return lambda x: scaled(layer, run(sign(x) if read else x, weight, None), shape)
    read = layer.binarizes
    return lambda x: scaled(layer, nn.functional.linear(sign(x) if read else x, weight), (-1,))


def _real_sums(layer: BinaryLayer) -> Callable[[np.ndarray], Tensor]:
    """Sums as the layer gives them: channels second, its factor and bias applied.

    They lie in memory as the layer's would, for torch adds numbers in the order in which they lie.
    """
    if isinstance(layer, BinaryConv2d):
        return lambda sums: scaled(layer, torch.from_numpy(sums).permute(0, 3, 1, 2).contiguous().float(), (-1, 1, 1))
    return lambda sums: scaled(layer, torch.from_numpy(sums).float(), (-1,))


def _pool(layer: BinaryLayer, steps: list[nn.Module], place: int, at: xnor.Thresholds | None) -> Callable[[np.ndarray], np.ndarray]:
    """The maximum at `place` among `steps`, on the signs of what all of them make of it."""
    pool = steps[place]
    assert isinstance(pool, nn.MaxPool2d)
    assert at is not None
    largest = np.full(layer.weight.shape[0], layer.weight[0].numel(), np.int64)
    before = [step for step in steps[:place] if not isinstance(step, nn.MaxPool2d)]
    # The sign falls as the pooled number grows if only one of the two, the number and the sign, falls as the sum grows.
    turned = _one_a_channel(layer, before, -largest) > _one_a_channel(layer, before, largest)
    falling = xnor.pack(np.where(turned ^ at.falling, 1, -1))
    size, stride, padding = (_pair(side)[0] for side in (pool.kernel_size, pool.stride, pool.padding))
    windows = xnor.Windows(size, stride, padding, pool.ceil_mode)
    return lambda bits: xnor.maximum(bits, windows, falling)
