"""What every test stands on: shapes checked while tests run, repeatable property tests, one thread."""

import os

from jaxtyping import install_import_hook
from numba.core.codegen import get_host_cpu_features

# oneDNN of torch 2.13 writes over the end of its memory where it takes convolutions of four channels backward, channels last, on a processor
# with AVX2 and without AVX-512 (docs/training.md); the networks of these tests are as narrow as that.
if "+avx512f" not in get_host_cpu_features():
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "SSE41")

# Everything that holds numerics. Not `tracking`, `runtime` and `stages`: their protocol `Tracker` is not made for isinstance, and
# Lightning looks into the signatures of its modules' methods.
CHECKED = (
    "core",
    "data",
    "models",
    "distillation",
    "pruning",
    "quantization",
    "attacks",
    "evaluation",
    "export",
    "artifacts",
    "registry",
    "params",
    "files",
)
install_import_hook([f"slimline.{part}" for part in CHECKED], "shapes.checked")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# The same examples in every run: a test that fails once fails again, here and on the next machine.
settings.register_profile("slimline", deadline=None, max_examples=40, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("slimline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", metavar="K/N", help="run every N-th of the chosen tests, from the K-th on (counted from 0)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if share := config.getoption("--share"):
        first, step = map(int, share.split("/"))
        config.hook.pytest_deselected(items=[item for place, item in enumerate(items) if place % step != first])
        items[:] = items[first::step]


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """The same draws in every test, and one thread: on tiny tensors a second one only waits, six times as long beside other work."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """Sixteen grey images of 8×8 in [0, 1]."""
    return torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
