"""Lightning's trainer, as every stage uses it."""

import logging
import warnings
from typing import Any

import pytorch_lightning as pl

# Lightning announces devices, products and its own deprecations at every call; a stage has one line for what matters.
for name in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)
for message in (
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",  # the teacher: on purpose
    ".*does not have many workers.*",
    ".*train_dataloader yielded None.*",  # steps that a resumed run has behind it
    ".*GPU available but not used.*",
):
    warnings.filterwarnings("ignore", message=message)


def trainer(**settings: Any) -> pl.Trainer:
    """A Lightning trainer that writes nothing on its own."""
    return pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **settings,
    )
