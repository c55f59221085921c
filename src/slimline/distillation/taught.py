"""Learning from a teacher: any loss of the table, with the teacher that it needs."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.core.mapped import mapped
from slimline.core.objective import Network, Objective
from slimline.distillation import LOSSES
from slimline.distillation.layers import overheard, shapes
from slimline.distillation.loss import Loss, Response
from slimline.errors import SlimlineError
from slimline.registry import Spec, build


class Taught(Objective):
    """A distillation loss against a teacher that sees the very same images.

    The teacher is frozen, and stays in eval mode whatever mode its surroundings are put in. It follows them to another device or type,
    but neither it nor the student is a part of this: checkpoints, optimizers and the exchange between processes know what is trained,
    and once.

    Args:
        student: the network that is trained.
        teacher: images to logits.
        loss: an entry of LOSSES.
        input_shape: of an image that both take: channels, height, width.

    Raises:
        SlimlineError: a loss that does not fit the two, or that teaches no logits.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, loss: Spec, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self._outside = (student, teacher.requires_grad_(False).eval())  # in a tuple, which torch does not look into
        self.loss: Loss = build(LOSSES, loss, shapes(student, input_shape), shapes(teacher, input_shape))
        if not self.loss.teaches_logits:
            raise SlimlineError(
                f"loss {loss['name']} compares layers alone, so the student would never learn to name a class; make it a term of sum, beside "
                "soft_hard or labels"
            )
        self.reads_layers = bool(self.loss.pairs)
        self._known: Float[Tensor, "views images classes"] | None = None

    @property
    def student(self) -> nn.Module:
        return self._outside[0]

    @property
    def teacher(self) -> nn.Module:
        return self._outside[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Taught":
        self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def forward(self, batch: Batch, network: Network) -> Float[Tensor, ""]:
        with overheard(self.student, {own for own, _ in self.loss.pairs}) as layers:
            student = Response(network(batch.images), layers)
        teacher = self._taught(batch)
        # Squares, powers and differences of features leave 16 bits, in which autocast would have products taken.
        with torch.autocast(batch.images.device.type, enabled=False):
            return self.loss(student.widened(), teacher.widened(), batch.labels)

    @torch.no_grad()
    def _taught(self, batch: Batch) -> Response:
        """What the teacher answers to `batch`."""
        if self._known is not None:
            return Response(self._known[batch.view].index_select(0, batch.samples.cpu()).to(batch.images.device))
        with overheard(self.teacher, {theirs for _, theirs in self.loss.pairs}) as layers:
            return Response(self.teacher(batch.images), layers)

    @torch.no_grad()
    def look_ahead(self, batches: Iterator[Batch], views: int, images: int) -> None:
        """Ask the teacher about every image in every view, and keep its logits, in a mapped file. Not where the loss looks within it.

        Raises:
            OSError: no space for them among the temporary files.
        """
        if self.loss.pairs:
            return
        for batch in batches:
            logits = self.teacher(batch.images)
            if self._known is None:
                self._known = mapped((views, images, logits.shape[1]), logits.dtype)
            self._known[batch.view, batch.samples.cpu()] = logits.cpu()
