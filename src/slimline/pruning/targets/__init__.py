"""Targets, one file each; the table is in `slimline.pruning`."""
