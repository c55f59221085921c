"""Block `tracking`: where runs are recorded. No DVC stage depends on it."""

from pydantic import Field

from slimline.params.base import Block


class Tracking(Block):
    """MLflow's store.

    Args:
        uri: gives way to the environment variable MLFLOW_TRACKING_URI; a relative one starts at the repository.
        experiment: its name there.
        model: name under which `slimline register` registers the quantized model.
        largest_artifact_mb: files above this many megabytes are recorded by path, size and md5; DVC keeps their bytes.
    """

    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
    largest_artifact_mb: int = Field(default=50, ge=1)
    model: str = Field(default="slimline", pattern=r"^[^/:@]+$")
