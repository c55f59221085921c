"""One way to train, for every stage."""

from pathlib import Path

import pytorch_lightning as pl

from slimline.data.batches import Ordered
from slimline.data.prepared import describe, load_split
from slimline.data.resident import resident
from slimline.data.shuffled import Mixing, Shuffled
from slimline.params.fit import Fit
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.script import Settings
from slimline.runtime.trainer import trainer
from slimline.tracking import Tracker

EVALUATION_BATCH = 512
"""Images a call in validation; it changes no result, only memory."""


class _Report(pl.Callback):
    """Hands each epoch to the tracker."""

    def __init__(self, tracker: Tracker, prefix: str) -> None:
        self.tracker, self.prefix = tracker, prefix

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        row = pl_module.history[-1]
        values = {"train/loss": row.train_loss, "val/loss": row.val_loss, "val/accuracy": row.val_accuracy}
        self.tracker.metrics({self.prefix + name: value for name, value in values.items()}, step=row.epoch)


def fit(module: Classifier, prepared: Path, params: Fit, settings: Settings, *, tracker: Tracker, prefix: str = "") -> Epoch:
    """Train `module` on the training split, leave it with the weights of its best epoch (by the validation split), return that.

    Args:
        prepared: folder of the prepared data.
        prefix: before the names of metrics, where a stage trains more than one network.
    """
    lightning = trainer(max_epochs=params.epochs, callbacks=[_Report(tracker, prefix)])
    device, share = lightning.strategy.root_device, {"rank": lightning.global_rank, "ranks": lightning.world_size}
    images, held_out = (resident(load_split(prepared, split), device, settings.hardware.resident_mb) for split in ("train", "validation"))
    mix = None if params.mix is None else Mixing(params.mix, len(describe(prepared).classes))
    train = Shuffled(images, params.batch_size, settings.seed, params.augment, mix, **share)
    module.train()  # a model from disk is in eval mode, and Lightning keeps the mode that it finds
    lightning.fit(module, train, Ordered(held_out, EVALUATION_BATCH, **share))
    module.cpu()
    return module.restore_best()
