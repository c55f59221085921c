"""prepare: any source of images to arrays of one size, split."""

from slimline.data.prepare import arrange, write
from slimline.data.sources import SOURCES
from slimline.files import whole_folder, write_json
from slimline.params.data import Data
from slimline.paths import Paths
from slimline.registry import build
from slimline.runtime.script import Made, Settings
from slimline.tracking import Tracker


def run(params: Data, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `data/prepared/` and `metrics/prepare.json`."""
    pictures = build(SOURCES, params.source, paths.root)
    prepared = arrange(pictures, size=params.size, channels=params.channels, validation=params.validation, test=params.test, seed=settings.seed)
    with whole_folder(paths.prepared) as folder:
        description = write(prepared, folder, name=params.source["name"])
    counts = {f"data/{split}": count for split, count in description["counts"].items()}
    metrics = {**counts, "data/classes": len(description["classes"]), "data/dropped_duplicates": prepared.dropped_duplicates}
    write_json(paths.stage_metrics("prepare"), metrics)
    return Made((paths.stage_metrics("prepare"), paths.prepared), metrics, {"data.digest": description["digest"]})
