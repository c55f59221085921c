"""Block `hardware`: where the work is done. No DVC stage depends on it, so moving to another machine makes nothing stale."""

from pydantic import Field

from slimline.params.base import Block


class Hardware(Block):
    """Processor threads of a training process; the last bits of a result may differ between thread counts."""

    threads: int = Field(ge=1)
