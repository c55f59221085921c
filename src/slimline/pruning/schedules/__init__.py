"""Schedules, one file each; the table is in `slimline.pruning`."""
