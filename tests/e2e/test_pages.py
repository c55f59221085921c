"""MLflow's pages in a real browser: `slimline ui` opens on the experiment, five runs compare by the metrics that they share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import browser, chromium
from pages import compared, visited
from recording import recording
from runs import runs_of, standing
from servers import started
from slimline.runtime.launch import free_port
from slimline.runtime.trace import SHIPPED
from slimline.tracking.mlflow import PIPELINE

pytestmark = pytest.mark.slow

MODELS = ("train_teacher", "distill_student", "train_alone", "prune", "quantize")
METRICS = {"test/accuracy": 0.99237, "size/packed_bytes": 34589.0, "cost/macs": 631200.0, "latency/batch_1_p50_ms": 0.0625}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace, and in its store a pipeline execution whose stages told of their models what stages tell."""
    root = tmp_path_factory.mktemp("pages")
    shipped = SHIPPED.read_text()
    (root / "params.yaml").write_text(
        f"{shipped[: shipped.index(chr(10) + 'tracking:') + 1]}tracking: {{uri: 'sqlite:///mlflow.db', experiment: tests}}\n"
    )
    (root / "index.html").write_text("<h1>27 times smaller</h1>")
    with recording(root) as start:
        for place, stage in enumerate(MODELS):
            tracker = start(stage, "one")
            tracker.params({"seed": 0, stage: {"fit": {"epochs": 2}}})
            for epoch in range(2):
                tracker.metrics({"train/loss": 1 / (1 + epoch), "val/accuracy": 0.5 + epoch / 10}, step=epoch)
            tracker.metrics({name: value + place for name, value in METRICS.items()})
            tracker.finish("FINISHED", last=False)
        tracker = start("evaluate", "one")
        tracker.artifact(root / "index.html")
        tracker.finish("FINISHED", last=True)
    return root


@pytest.fixture(scope="module")
def base(folder: Path) -> Iterator[str]:
    """Where `slimline ui` serves."""
    chromium()
    port = free_port()
    slimline = str(Path(sys.executable).parent / "slimline")
    with started(slimline, "--workspace", str(folder), "ui", "--port", str(port), port=port, folder=folder):
        yield f"http://127.0.0.1:{port}/"


def test_the_pages_open_on_the_experiment_compare_five_runs_and_lead_to_the_report(base: str, folder: Path) -> None:
    runs = runs_of(f"sqlite:///{folder / 'mlflow.db'}", "tests")
    told = (folder / "server.log").read_text()
    address = next(line.removeprefix("tests: ") for line in told.splitlines() if line.startswith("tests: "))
    assert address.startswith(f"{base}#/experiments/{runs[0].info.experiment_id}/runs")
    with browser() as page:
        opened = visited(page, address, "pipeline one", "matching runs")
        assert "Runs of slimline: one a pipeline execution" in opened

        chosen = [standing(runs, stage).info.run_id for stage in MODELS]
        text = visited(page, base + compared(runs[0].info.experiment_id, chosen), "Comparing 5 Runs", *METRICS)
        assert all(stage in text for stage in MODELS)
        assert all(f"{METRICS['size/packed_bytes'] + place:.0f}" in text.replace(",", "") for place in range(5))

        charts = visited(page, f"{address}&compareRunsMode=CHART", "pipeline one", "size", "test/accuracy")
        assert "cost" in charts, "a section of charts for each kind of number, without set-up"

        for stage in ("quantize", PIPELINE):
            run = standing(runs, stage)
            visited(page, f"{base}#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}", "Description", "Report")
            href = page.evaluate("[...document.querySelectorAll('a')].find(one => one.textContent == 'Report').getAttribute('href')")
            judge = standing(runs, "evaluate")
            assert href.endswith(f"#/experiments/{judge.info.experiment_id}/runs/{judge.info.run_id}/artifacts/index.html")
        shown = visited(page, f"{base}{href[href.index('#') :]}", "index.html")
        assert "Artifacts" in shown
