"""The training of a classifier as Lightning schedules it; every training stage is one of these with its own objective."""

import hashlib
from dataclasses import astuple, dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.core.objective import Objective
from slimline.data.shuffled import Shuffled
from slimline.params.fit import Fit
from slimline.registry import build
from slimline.runtime.losses import Losses, NotFiniteError
from slimline.runtime.objectives import Slimming
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.parallel.arrangement import Arrangement
from slimline.runtime.stopping import STOP
from slimline.runtime.updates import Updates


@dataclass(frozen=True)
class Epoch:
    """One row of a training curve."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    steps: int = 0  # made when it ended

    @property
    def score(self) -> tuple[float, float]:
        """The larger, the better: accuracy, and among equals the lower loss."""
        return self.val_accuracy, -self.val_loss


@dataclass(frozen=True)
class Position:
    """How far a training is: `step` steps of epoch `epoch`, both from 0."""

    epoch: int = 0
    step: int = 0


class Classifier(pl.LightningModule):
    """Trains `model` towards `objective` and remembers the epoch with the best validation accuracy.

    Lightning schedules; `runtime.updates` computes; the arrangement that `fit` hands over says how several processes share the work.

    Args:
        model: images in [0, 1] to logits.
        fit: optimizer, schedule and number of epochs.
        objective: what is minimized, `runtime.objectives` and `distillation.taught`.
    """

    arrangement: Arrangement
    train_split: Shuffled
    updates: Updates

    def __init__(self, model: nn.Module, fit: Fit, objective: Objective) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.fit_params = fit
        self.objective = objective if fit.norm_sparsity == 0 else Slimming(objective, model, fit.norm_sparsity)
        self.history: list[Epoch] = []
        self.position = Position()
        self.counted_from = 0  # the first epoch that may be the best one
        self.keep_step: int | None = None  # before this step of the training the weights are kept in `kept`
        self.kept: dict[str, Tensor] | None = None
        self._best: tuple[Epoch, dict[str, Tensor]] | None = None  # its weights in the first process alone
        self._resumed: dict[str, Any] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes each hook's name here, twice a hook, and torch looks through parameters, buffers and modules each time: a quarter
        # of what Lightning's loop costs a step. What is a plain attribute already, and stays one, needs no such look.
        if name in self.__dict__ and not isinstance(value, nn.Parameter | nn.Module):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def prepare(self, arrangement: Arrangement, train: Shuffled, resumed: dict[str, Any] | None) -> None:
        """What `fit` knows before Lightning starts.

        Args:
            train: the training split, whose seed is that of what is random within the network too.
            resumed: a checkpoint's content, in the first process.
        """
        self.arrangement = arrangement
        self.train_split = train
        course = arrangement.world.firsts(None if resumed is None else resumed["course"])
        self._resumed = resumed["updates"] if resumed is not None else None
        self._go_on = course is not None
        self._losses_so_far = 0.0
        if course is not None:
            self.position = Position(*course["position"])
            self.history = [Epoch(*row) for row in course["history"]]
            self._losses_so_far = course["losses"][arrangement.world.rank]
            self.kept = None if resumed is None else resumed["kept"]
            if course["best"] is not None:
                self._best = Epoch(*course["best"]), {} if resumed is None else resumed["best"]

    def configure_model(self) -> None:
        self.arrangement.lay_out(self.model)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # The objective's own parameters too: projections of features are trained beside the network.
        parameters = [p for part in (self.model, self.objective) for p in part.parameters() if p.requires_grad and p.numel() > 0]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.fit_params.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer = build(OPTIMIZERS, self.fit_params.optimizer, [group for group in groups if group["params"]])
        return optimizer

    def on_fit_start(self) -> None:
        optimizer = self.trainer.optimizers[0]
        steps, layout = len(self.train_split) * self.fit_params.epochs, self.arrangement.layout(self.fit_params)
        self.updates = Updates(self.model, self.objective, optimizer, self.fit_params, steps, self.device, layout)
        network = self.trainer.strategy.model
        assert network is not None
        self.arrangement.begin(self.updates, network, self.objective)
        if self._go_on:
            self.arrangement.load(self.updates, self._resumed)
        self._resumed = None
        train, views = self.train_split, self.train_split.different
        # Every process asks about all images, while it meets its share of them an epoch.
        if views is not None and views * train.ranks < self.fit_params.epochs:
            self.updates.look_ahead(STOP.heeded(train.every_view()), views, len(train.images))
        self._losses = Losses()
        self._validation = torch.zeros(3, dtype=torch.float64, device=self.device)  # images, right answers, summed loss
        self._generator = torch.cuda.default_generators[self.device.index or 0] if self.device.type == "cuda" else torch.default_generator

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The loaders make batches where they are used."""
        return batch

    def on_train_epoch_start(self) -> None:
        if self.current_epoch != self.position.epoch:
            self.position = Position(self.current_epoch)
            self._losses_so_far = 0.0
        self._losses.reset(self._losses_so_far, self.position.step)

    def training_step(self, batch: Batch, index: int) -> None:
        train, size = self.train_split, self.fit_params.batch_size
        if self.updates.done == self.keep_step:
            self.kept = self.arrangement.whole(self.model)
        # What is random within the network (dropout) is decided by the step, so that a resumed run draws the same.
        self._generator.manual_seed(_number(train.seed, self.updates.done, self.arrangement.world.rank))
        part = len(batch.images) / min(size, len(train.images) - self.arrangement.step_of(index) * size)
        weight = part * train.ranks
        loss = self.arrangement.step(self.updates, batch, weight, self.manual_backward)
        self._losses.add(loss if part == 1.0 else loss * part)
        self.position = Position(self.current_epoch, index + 1)

    def on_validation_epoch_start(self) -> None:
        self._validation.zero_()
        self.arrangement.equalize(self.updates)
        self.updates.validated.eval()

    def validation_step(self, batch: Batch, _index: int) -> None:
        images, labels = batch.images, batch.labels
        logits = self.arrangement.logits(self.updates.validated, self.updates.inputs(images))
        if logits is None:
            return
        logits = logits.double()
        right = (logits.argmax(1) == labels).sum()
        self._validation += torch.stack([torch.full_like(right, len(labels)), right, F.cross_entropy(logits, labels, reduction="sum")])

    def on_validation_epoch_end(self) -> None:
        world = self.arrangement.world
        train_loss, *validation = world.summed(torch.cat([self._validation.new_tensor([self._losses.look()]), self._validation])).tolist()
        images, right, summed_loss = validation
        steps = len(self.train_split)
        row = Epoch(self.current_epoch, train_loss / steps, summed_loss / images, right / images, steps * (self.current_epoch + 1))
        if not row.val_loss < float("inf"):  # so put, it holds for what is no number too
            raise NotFiniteError(self.position.step - 1, row.val_loss)
        self.history.append(row)
        if row.epoch >= self.counted_from and (self._best is None or row.score > self._best[0].score):
            self._best = row, self.arrangement.whole(self.updates.validated)
        patience = self.fit_params.patience
        if patience is not None and self._best is not None and row.epoch - self._best[0].epoch >= patience:
            self.trainer.should_stop = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, in the first process; every process takes part.

        Raises:
            NotFiniteError: one of the losses.
        """
        row, weights = self._best or (None, {})
        course = {
            "position": [self.position.epoch, self.position.step],
            "losses": self.arrangement.losses(self._losses.look()),
            "history": [list(astuple(row)) for row in self.history],
            "best": None if row is None else list(astuple(row)),
        }
        return {"course": course, "best": weights, "kept": self.kept, "updates": self.arrangement.state(self.updates)}

    def restore_best(self) -> Epoch:
        """Give `model` the weights of its best epoch, which the first process has, and return that epoch."""
        assert self._best is not None, "nothing was trained"
        row, state = self._best
        self.model.load_state_dict(self.arrangement.world.firsts(state))
        return row


def _number(*facts: int) -> int:
    """A number that `facts` decide, of 63 bits."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest(), "big") >> 1
