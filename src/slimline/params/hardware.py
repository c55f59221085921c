"""Block `hardware`: where the work is done. No DVC stage depends on it, so moving to another machine makes nothing stale."""

from pydantic import Field

from slimline.params.base import Block


class Hardware(Block):
    """Processor threads of a training process; the last bits of a result may differ between thread counts.

    `workers`: processes that decode images (null: one a processor), which changes no result.
    Images of up to `resident_mb` million bytes a split are held in the training device's memory (null: up to half of what is free
    there); more are read from their file as they are needed, which changes no result.
    """

    threads: int = Field(ge=1, le=1024)
    workers: int | None = Field(default=None, ge=1, le=1024)
    resident_mb: int | None = Field(default=None, ge=0)
