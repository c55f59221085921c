"""A trial that several processes train, as hardware.devices asks: `together` starts them, and each of them is this module run as a program.

They end with the worker that started them, and it with the first of them that is killed; the driver then hands the trial to another one.
"""

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from slimline.files import write_json
from slimline.runtime.launch import SUPERVISOR, run_together
from slimline.runtime.refusal import refusing
from slimline.runtime.stopping import end_with
from slimline.runtime.world import World
from slimline.sweep.asked import Asked, Found, Place

TASK, FOUND = "task.json", "found.json"


def together(place: Place, asked: Asked, ranks: int) -> Found:
    """What `ranks` processes find for one trial; all of them read what is asked from one file.

    Raises:
        SlimlineError: they refuse it.
        KilledError: one was killed.
    """
    with tempfile.TemporaryDirectory(dir=place.cache.parent) as folder:
        task, found = Path(folder) / TASK, Path(folder) / FOUND
        write_json(task, json.loads(json.dumps([asdict(place), asdict(asked)], default=os.fspath)))
        code = run_together([sys.executable, "-m", __name__, folder], ranks)
        if code >= 128:
            sys.exit(code)  # a signal has ended this worker, and it them
        if code:
            raise RuntimeError(f"a process of this trial ended with {code}; its own message stands above")
        return Found(**json.loads(found.read_text()))


def _rank(folder: Path) -> None:
    """One of these processes."""
    from slimline.sweep.trial import Trials  # the worker imports it as it imports this

    first, second = json.loads((folder / TASK).read_text())
    place = Place(**(first | {name: Path(first[name]) for name in PATHS}))
    asked = Asked(**{**second, "keep": None if second["keep"] is None else Path(second["keep"])})
    sys.path.insert(0, str(place.base))
    end_with([int(os.environ[SUPERVISOR])])
    world = World.of(os.environ)
    world.join()
    found = Trials(place, world).run(asked)
    if world.first:
        write_json(folder / FOUND, asdict(found))


PATHS = ("base", "chooses", "judges", "cache")

if __name__ == "__main__":
    with refusing():
        _rank(Path(sys.argv[1]))
