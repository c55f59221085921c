"""The pipeline that reruns by itself: one tick (`tick.py`), and the schedule of ticks, the only place that knows APScheduler (`schedule.py`)."""
