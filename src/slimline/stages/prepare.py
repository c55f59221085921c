"""prepare: any source of images to arrays of one size, divided and checked."""

from pathlib import Path

from slimline.data.prepare.arrays import prepare
from slimline.data.sources import SOURCES
from slimline.files import whole_folder, write_json
from slimline.params.data import Data
from slimline.paths import Paths
from slimline.registry import build
from slimline.runtime.settings import Made, Settings
from slimline.tracking import Tracker


def run(params: Data, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `data/prepared/`, where its images came from beside it, and `metrics/prepare.json`."""
    items = build(SOURCES, params.source, paths.root)
    with whole_folder(paths.prepared) as folder:
        prepared = prepare(items, params, folder, seed=settings.seed, workers=settings.hardware.workers)
        # Before the new arrays take the old ones' place: where one of these cannot be written, those stay.
        write_json(paths.stage_metrics("prepare"), prepared.report)
        name = Path(params.source["path"]).name.partition(".")[0]
        write_json(paths.origin, {"name": name, "source": params.source})
        prepared.write_files(paths.files)
    counts = ", ".join(f"{count:,} {split}" for split, count in prepared.description["counts"].items())
    print(f"prepare: {counts} images of {len(prepared.description['classes'])} classes", flush=True)
    for note in prepared.report["notes"]:
        print(f"prepare: {note}; see {paths.stage_metrics('prepare').relative_to(paths.root)}", flush=True)
    numbers = {f"data/{name}": count for name, count in prepared.report["images"].items()}
    metrics = {**numbers, "data/classes": len(prepared.report["classes"])}
    files = (paths.stage_metrics("prepare"), paths.origin, paths.files, paths.prepared)
    digest = prepared.description["digest"]
    data = {"name": name, "digest": digest, "classes": len(prepared.description["classes"]), **prepared.description["counts"]}
    return Made(files, metrics, {"data.digest": digest}, data)
