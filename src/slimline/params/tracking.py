"""Block `tracking`: where runs are recorded. No DVC stage depends on it."""

from pydantic import Field

from slimline.params.base import Block


class Tracking(Block):
    """MLflow's store; `uri` gives way to the environment variable MLFLOW_TRACKING_URI, and is relative to the repository."""

    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
