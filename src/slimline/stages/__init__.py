"""The stages: a `run` function each, and from the teacher on a LightningModule. None imports another."""
