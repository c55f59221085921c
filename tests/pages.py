"""MLflow's pages in a browser.

The pictures in docs/images: `python tests/pages.py` in a repository in which the pipeline and a sweep have run, `slimline ui` at work.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mlflow.tracking import MlflowClient

from browser import Browser, browser

POLL, STILL, PATIENCE = 1.0, 3, 180.0
"""Seconds between two looks at a page, looks without a change after which it is complete, and seconds until that."""

CLOSED = """(() => { const panel = [...document.querySelectorAll('button')].filter(one => (one.getAttribute('aria-label') || '') == 'Close');
panel.forEach(one => one.click()); return panel.length })()"""
FOLDED = """['Visualizations', 'Parameters', 'Artifacts', 'Tags'].forEach(word =>
[...document.querySelectorAll('*')].filter(one => one.textContent.trim() == word).pop().click())"""
SHOWN = "document.body ? document.body.innerText : ''"


def compared(experiment: str, runs: Sequence[str]) -> str:
    """Where MLflow compares runs."""
    return f"#/compare-runs?runs={quote(json.dumps(list(runs)))}&experiments={quote(json.dumps([experiment]))}"


def visited(page: Browser, address: str, *words: str, width: int = 1600, height: int = 1000) -> str:
    """The text of a page of MLflow's, once all `words` are there and nothing moves any more.

    Raises:
        TimeoutError: they did not come.
    """
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url="about:blank")  # else another # of the same page would not load it anew
    page.call("Page.navigate", url=address)
    end, still, last = time.monotonic() + PATIENCE, 0, ""
    while still < STILL or any(word not in last for word in words):
        if time.monotonic() > end:
            raise TimeoutError(f"{address} shows {[word for word in words if word in last]} of {words} after {PATIENCE:g} s:\n{last[:2000]}")
        time.sleep(POLL)
        text = str(page.evaluate(SHOWN))
        still, last = (still + 1 if text == last else 0), text
    page.evaluate(CLOSED)  # of the assistant, which takes a quarter of the page
    return last


def main(database: str = "sqlite:///mlflow.db", base: str = "http://127.0.0.1:5000/", folder: str = "docs/images") -> None:
    client, target = MlflowClient(database), Path(folder)
    (experiment,) = (one.experiment_id for one in client.search_experiments() if one.name == "slimline")
    runs = {run.info.run_name: run.info.run_id for run in reversed(client.search_runs([experiment]))}
    models = [runs[stage] for stage in ("train_teacher", "distill_student", "train_alone", "prune", "quantize")]
    pipelines = [run for name, run in runs.items() if name.startswith("pipeline")][-2:]
    trials = [run for name, run in runs.items() if name.startswith(("full ", "short "))]
    with browser() as page:
        for name, chosen in {"models": models, "two-executions": pipelines, "sweep": trials}.items():
            visited(page, base + compared(experiment, chosen), f"Comparing {len(chosen)} Runs", "Metrics")
            time.sleep(3 * POLL)
            if name != "sweep":
                page.evaluate(FOLDED)
                time.sleep(POLL)
            page.screenshot(target / f"mlflow-{name}.png")
        visited(page, f"{base}#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART", "pipeline", "test/accuracy")
        time.sleep(3 * POLL)
        page.screenshot(target / "mlflow-executions.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
