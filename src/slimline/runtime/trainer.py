"""Lightning's trainer, as every stage uses it."""

import logging
import sys
import warnings
from typing import Any

import pytorch_lightning as pl

# Lightning announces devices, products and its own deprecations at every call; a stage has one line for what matters.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # the teacher: on purpose
warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def trainer(**settings: Any) -> pl.Trainer:
    """A Lightning trainer that writes nothing on its own and picks deterministic algorithms."""
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **settings,
    )
