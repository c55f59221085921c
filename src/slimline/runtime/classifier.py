"""The training of a classifier as Lightning schedules it; every training stage is one of these with its own objective."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.registry import bind, build
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.schedules import SCHEDULES


@dataclass(frozen=True)
class Epoch:
    """One row of a training curve."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float


class Classifier(pl.LightningModule):
    """Trains `model` towards `objective` and remembers the epoch with the best validation accuracy.

    Args:
        model: images in [0, 1] to logits.
        fit: optimizer, schedule and number of epochs.
        objective: `(images, labels, logits) -> scalar loss`, as in `runtime.objectives` and `distillation.taught`.
    """

    def __init__(self, model: nn.Module, fit: Fit, objective: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.fit_params = fit
        self.objective = objective
        self.history: list[Epoch] = []
        self._best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        self._train_loss = torch.zeros((), dtype=torch.float64)
        self._validation = torch.zeros(3, dtype=torch.float64)  # images, right answers, summed loss

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.fit_params.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = build(OPTIMIZERS, self.fit_params.optimizer, groups)
        factor = bind(SCHEDULES, self.fit_params.schedule)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(min(step / steps, 1.0)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        self._train_loss = torch.zeros((), dtype=torch.float64, device=self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.objective(images, labels, self.model(images))
        self._train_loss += loss.detach()
        return loss

    def on_validation_epoch_start(self) -> None:
        self._validation = torch.zeros(3, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        images, labels = batch
        logits = self.model(images)
        self._validation += torch.stack(
            [
                torch.tensor(float(len(labels)), device=self.device),
                (logits.argmax(1) == labels).sum(),
                F.cross_entropy(logits, labels, reduction="sum"),
            ]
        )

    def on_validation_epoch_end(self) -> None:
        train_loss = float(self._train_loss) / self.trainer.num_training_batches
        images, right, summed_loss = self._validation.tolist()
        row = Epoch(self.current_epoch, train_loss, summed_loss / images, right / images)
        if not (torch.isfinite(torch.tensor([row.train_loss, row.val_loss]))).all():
            raise SlimlineError(f"the loss became infinite or undefined in epoch {row.epoch}; lower the learning rate (fit.optimizer.lr)")
        self.history.append(row)
        score = (row.val_accuracy, -row.val_loss)
        if self._best is None or score > self._best[0]:
            self._best = score, {name: tensor.detach().clone().cpu() for name, tensor in self.model.state_dict().items()}

    def restore_best(self) -> Epoch:
        """Give `model` the weights of its best epoch, and return that epoch."""
        assert self._best is not None, "nothing was trained"
        score, state = self._best
        self.model.load_state_dict(state)
        return next(row for row in self.history if (row.val_accuracy, -row.val_loss) == score)
