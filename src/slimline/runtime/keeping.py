"""Between two steps: write a checkpoint when one is due, end when a signal has asked for it, show how far the training is."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from slimline.runtime.checkpoints import Checkpoints
from slimline.runtime.classifier import Classifier
from slimline.runtime.parallel.arrangement import END, SAVE
from slimline.runtime.progress import progress
from slimline.runtime.stopping import STOP, Stopped
from slimline.tracking import Tracker


class Keeper(pl.Callback):
    """Hands each epoch to the tracker, and keeps the training so that it can be ended and go on.

    Args:
        checkpoints: None where nothing is kept.
        name: of what is trained, beside how far it is.
    """

    def __init__(self, checkpoints: Checkpoints | None, tracker: Tracker, name: str) -> None:
        self.checkpoints = checkpoints
        self.tracker, self.name = tracker, name
        self._bar: Any = None
        self._asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        # Lightning's own handler of SIGTERM, set a moment ago, exits with 0 from a validation and has processes exchange at different places.
        STOP.listen_again()
        updates, total = pl_module.updates, pl_module.updates.steps * pl_module.arrangement.updates_a_step
        self._bar = progress(self.name, updates.done, total, shown=pl_module.arrangement.world.first)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch is None:  # a step that was made before
            return
        assert isinstance(pl_module, Classifier)
        self._bar.update(pl_module.updates.done - self._bar.n)
        self._heed(pl_module, pl_module.arrangement.agree, self._wish(pl_module))

    # A validation may take longer than a signal leaves time for.
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        self._heed(pl_module, pl_module.arrangement.meet, self._wish(pl_module))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert isinstance(pl_module, Classifier)
        self._heed(pl_module, pl_module.arrangement.meet, 0 if STOP.signum is None else END)

    def _wish(self, module: Classifier) -> int:
        if STOP.signum is not None:
            return END
        # Asked for once: others may learn of it a step later, when it is as due as before.
        if self._asked or self.checkpoints is None or not module.arrangement.world.first or not self.checkpoints.due:
            return 0
        self._asked = True
        return SAVE

    def _heed(self, module: Classifier, agreement: Callable[[int], int], wish: int) -> None:
        agreed = agreement(wish)
        if agreed:
            self.save(module)
            self._asked = False
        if agreed == END:
            raise Stopped(STOP.signum or 15)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        row = pl_module.history[-1]
        values = {"train/loss": row.train_loss, "val/loss": row.val_loss, "val/accuracy": row.val_accuracy}
        self.tracker.metrics(values, step=row.epoch)
        self._bar.set_postfix_str(f"epoch {row.epoch + 1}, validation {row.val_accuracy:.2%}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        # There is nothing left that a checkpoint could save, but all are to end alike.
        if pl_module.arrangement.meet(0 if STOP.signum is None else END) == END:
            raise Stopped(STOP.signum or 15)
        pl_module.arrangement.settle()
        self._bar.close()

    def save(self, module: Classifier) -> None:
        """Write a checkpoint; every process takes part, the first one writes."""
        state = module.state()
        if self.checkpoints is not None and module.arrangement.world.first:
            self.checkpoints.save(module.position.epoch, module.position.step, state)
