"""Running a stage: its script, its training, its repeatability."""
