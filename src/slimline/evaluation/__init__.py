"""Measuring models as they are deployed: accuracy with intervals, paired comparisons, calibration, latency."""
