"""A session of ONNX Runtime on the processor, as slimline opens it everywhere.

Imports neither torch nor onnx, so that a process of its own can tell what a session costs (`evaluation.cold`).
"""

import platform
from pathlib import Path

import onnxruntime

from slimline.errors import SlimlineError

INEXACT = ["WeightBiasQuantization"]
"""Optimizations that change the function: this one rounds real weights (those of a codebook) to 8 bits where their inputs are integers."""

CPU_FLAGS = Path("/proc/cpuinfo")

EXACT_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Processors with one of these add products of 8 by 8 bits in 32 bits."""


def adds_in_16_bits(flags: Path = CPU_FLAGS) -> bool:
    """Whether this is an x86 processor without VNNI, which adds two products of 8 by 8 bits in 16 before it goes on in 32."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not flags.exists():
        return False
    words = set(flags.read_text().split())
    return not words.intersection(EXACT_FLAGS)


SATURATING = (
    "this processor lacks VNNI: products of 8 by 8 bits are added in 16 bits, where two can overflow. slimline asks ONNX Runtime for its exact, "
    "slower way; other programs must set session.x64quantprecision to 1, or give weights a reduced range: quantize.weights.bits 7"
)


MOST_THREADS = 1024
"""More would take minutes to start."""


def check_threads(threads: int) -> None:
    """
    Raises:
        SlimlineError: a number of threads that nothing runs with.
    """
    if not 1 <= threads <= MOST_THREADS:
        raise SlimlineError(f"threads: found {threads}; take 1 to {MOST_THREADS}, as many as there are free cores")


def session(
    source: Path | bytes, threads: int, *, optimized: bool = True, spinning: bool = True, rewritten: Path | None = None
) -> onnxruntime.InferenceSession:
    """
    Args:
        spinning: whether threads spin while they wait for the next call, as ONNX Runtime has it. Where torch takes turns with it in one
            process, both then want all cores (attacks on two cores took three times as long).

    Raises:
        SlimlineError: no such file, or none that ONNX Runtime can run; a number of threads that nothing runs with.
    """
    check_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if rewritten is not None:
        options.optimized_model_filepath = str(rewritten)
    if adds_in_16_bits():
        # The exact way instead. Where there is VNNI it would bring nothing, and take more than twice the time.
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=INEXACT,
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime raises classes of its C layer that share no public base
        what = "the exported model" if isinstance(source, bytes) else source
        raise SlimlineError(f"{what}: ONNX Runtime cannot load it ({str(error).splitlines()[0]}); run the stage that writes it again") from error
