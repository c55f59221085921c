"""Block `hardware`: where the work is done. No DVC stage depends on it, so moving to another machine makes nothing stale."""

from typing import Literal

from pydantic import Field

from slimline.params.base import Block, plugin

Strategy = plugin("slimline.runtime.parallel:STRATEGIES")


class Hardware(Block):
    """Processor threads of a training process; the last bits of a result may differ between thread counts, devices and strategies.

    `accelerator`: `auto` takes a GPU where there is one. `devices`: how many of them train together on each machine, a process each (on
    the processor: so many processes); `nodes`: how many machines, on each of which the stage is started by torchrun (SLIMLINE_LAUNCH).
    `strategy`: how a network is laid out over them.
    `workers`: processes that decode images (null: one a processor), which changes no result.
    Images of up to `resident_mb` million bytes a split are held in the training device's memory (null: up to half of what is free
    there); more are read from their file as they are needed, which changes no result.
    `checkpoint_seconds`: what a kill may cost, in seconds of training; 0 writes a checkpoint every step.
    """

    threads: int = Field(ge=1, le=1024)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, ge=1, le=1024)
    nodes: int = Field(default=1, ge=1, le=1024)
    strategy: Strategy = Field(default={"name": "ddp"})  # type: ignore[valid-type, assignment]
    workers: int | None = Field(default=None, ge=1, le=1024)
    resident_mb: int | None = Field(default=None, ge=0)
    checkpoint_seconds: float = Field(default=30.0, ge=0.0)

    def on_cuda(self) -> bool:
        """Whether training runs on a GPU."""
        import torch  # the schema of params.yaml is read by quick commands too

        return self.accelerator != "cpu" and torch.cuda.is_available()
