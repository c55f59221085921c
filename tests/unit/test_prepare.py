"""Prepared arrays: refusals, what is written, what is read again; the laws of dividing are in tests/property/test_prepare_laws.py."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import tiny
from slimline.data.prepare.divide import SPLITS
from slimline.data.prepared import describe, load_split
from slimline.data.sources.item import Item, Membership
from slimline.errors import SlimlineError


def relabelled(items: list[Item], *labels: str) -> list[Item]:
    return [item._replace(belongs=Membership(labels[n % len(labels)])) for n, item in enumerate(items)]


def refusal(items: list[Item], **changes) -> str:
    """What is said of images that cannot be prepared."""
    with pytest.raises(SlimlineError) as refused, tiny.prepared(items, **changes):
        pass
    return str(refused.value)


@pytest.fixture
def made():
    with tiny.prepared(tiny.items(90, classes=3)) as made:
        yield made


def test_one_class_is_no_task_and_is_refused() -> None:
    assert "found 1 class (class 0)" in refusal(tiny.items(20, classes=1))


def test_no_image_at_all_is_refused() -> None:
    assert "photos: no readable image in it" in refusal([])


@pytest.mark.parametrize(("labels", "named"), [(("Cat", "cat"), "'Cat' and 'cat'"), (("STRASSE", "straße", "dog"), "'STRASSE' and 'straße'")])
def test_classes_that_differ_in_case_alone_are_refused(labels: tuple[str, ...], named: str) -> None:
    assert named in refusal(relabelled(tiny.items(60), *labels))


def test_a_name_composed_in_two_ways_is_one_class() -> None:
    with tiny.prepared(relabelled(tiny.items(90), "caf\u00e9", "cafe\u0301", "tea")) as made:
        assert made.classes == ("caf\u00e9", "tea")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "caf\udce9"])
def test_a_class_whose_name_cannot_be_printed_is_refused(name: str) -> None:
    assert "has a name that cannot be printed" in refusal(relabelled(tiny.items(60), "cat", name))


def test_blanks_around_a_name_mean_nothing() -> None:
    with tiny.prepared(relabelled(tiny.items(90), "cat", " cat", "dog ")) as made:
        assert made.classes == ("cat", "dog")


def test_numbers_are_in_order_of_their_value_and_names_of_their_letters() -> None:
    with tiny.prepared(relabelled(tiny.items(120), "10", "9", "2")) as made:
        assert made.classes == ("2", "9", "10")
    with tiny.prepared(relabelled(tiny.items(120), "10", "9", "b")) as made:
        assert made.classes == ("10", "9", "b")


def test_a_class_that_is_missing_in_a_split_is_refused_with_both_names_and_the_count() -> None:
    lonely = tiny.items(1, seed=9)[0]._replace(belongs=Membership("rare"))
    assert re.search(r"too few images in the \w+ split of class rare \(0\); at least 1 is needed", refusal([*tiny.items(60), lonely]))


def test_a_label_that_is_missing_from_training_is_refused() -> None:
    new = tiny.items(1, seed=9)[0]._replace(belongs=Membership("new", "test"))
    said = refusal([*tiny.items(60), *tiny.items(20, seed=5, split="test"), new])
    assert "too few images in the train split of class new (0)" in said


def test_the_least_number_of_images_of_a_class_is_the_users_choice() -> None:
    assert re.search(r"in the train split of class class \d \(\d+\).*at least 20 are needed", refusal(tiny.items(90, classes=3), smallest_class=20))


def test_the_written_description_tells_mean_and_deviation_of_each_channel_of_the_training_pixels() -> None:
    colours = np.random.default_rng(0).integers(0, [256, 100, 10], (60, 8, 8, 3), dtype=np.uint8)
    coloured = [item._replace(content=pixels) for item, pixels in zip(tiny.items(60), colours, strict=True)]
    with tiny.prepared(coloured, channels=3) as made:
        train = made.images("train") / 255
        assert np.allclose(made.prepared.description["mean"], train.mean((0, 2, 3)))
        assert np.allclose(made.prepared.description["std"], train.std((0, 2, 3)))
        assert made.prepared.description["counts"] == {split: len(made.labels(split)) for split in SPLITS}


def test_a_channel_of_one_level_has_a_deviation_that_can_be_divided_by() -> None:
    green = np.zeros((60, 8, 8, 3), np.uint8)
    green[..., 1] = np.random.default_rng(0).integers(0, 256, (60, 8, 8))
    with tiny.prepared([item._replace(content=pixels) for item, pixels in zip(tiny.items(60), green, strict=True)], channels=3) as made:
        assert made.prepared.description["std"][0] == 1 / 255


def test_what_was_written_is_read_again(made: tiny.Arrays) -> None:
    description = describe(made.folder)
    assert description.classes == made.classes
    assert description.input_shape == (1, 8, 8)
    for split in SPLITS:
        images = load_split(made.folder, split)
        assert np.array_equal(images.pixels.numpy(), made.images(split))
        assert [made.classes[label] for label in images.labels] == made.labels(split)


def test_nothing_but_the_arrays_and_their_description_is_left(made: tiny.Arrays) -> None:
    arrays = {f"{split}/{part}.npy" for split in SPLITS for part in ("images", "labels")}
    assert set(made.files()) == arrays | {"dataset.json"}


def test_nothing_prepared_tells_where_it_came_from(made: tiny.Arrays) -> None:
    elsewhere = [item._replace(origin=f"/home/else/{item.origin}") for item in tiny.items(90, classes=3)]
    with tiny.prepared(elsewhere, source={"name": "images", "path": "other.tar"}) as other:
        assert other.files() == made.files()


def test_the_digest_changes_with_any_pixel_any_label_and_any_name() -> None:
    items = tiny.items(90, classes=3)
    pixel = items[7].content.copy()
    pixel[0, 0] ^= 1
    variants = [
        items,
        [*items[:7], items[7]._replace(content=pixel), *items[8:]],
        [*items[:7], items[7]._replace(belongs=Membership("class 2")), *items[8:]],
        [item._replace(belongs=Membership(f"{item.belongs.label}!")) for item in items],
    ]
    digests = set()
    for variant in variants:
        with tiny.prepared(variant) as made:
            digests.add(made.prepared.description["digest"])
    assert len(digests) == 4


def test_the_list_of_files_names_every_image_in_its_place(made: tiny.Arrays, tmp_path: Path) -> None:
    made.prepared.write_files(tmp_path / "files.csv")
    items = {item.origin: item for item in tiny.items(90, classes=3)}
    with (tmp_path / "files.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 90
    for line in listed:
        item = items[line["file"]]
        assert np.array_equal(made.images(line["split"])[int(line["row"])][0], item.content)
        assert line["class"] == item.belongs.label == made.labels(line["split"])[int(line["row"])]


def test_the_report_tells_what_is_odd_about_the_images() -> None:
    items = tiny.items(600, classes=2)
    odd = [
        items[0]._replace(origin="copy.png"),
        items[1]._replace(origin="other label.png", belongs=Membership("class 0")),
        items[2]._replace(origin="blank.png", content=np.full((8, 8), 3, np.uint8)),
        items[3]._replace(origin="strip.png", content=np.tile(items[3].content, (1, 20))),
    ]
    with tiny.prepared([*items, *odd]) as made:
        found = made.prepared.report
    assert found["images"]["found"] == 604
    assert found["duplicates"]["copies"] == 2
    assert found["duplicates"]["contradictory_files"] == [["None 0 1", "other label.png"]]
    assert found["near_constant"] == {"count": 1, "files": ["blank.png"]}
    assert found["sizes"]["long"] == {"count": 1, "files": ["strip.png"]}
    assert found["sizes"]["width"] == [8, 8, 160]
    assert [sum(found["classes"][name].values()) for name in ("class 0", "class 1")] == [303, 301]
    assert [note for note in found["notes"] if "copies" in note or "labels" in note or "nothing" in note or "long" in note] == found["notes"]
    assert len(found["notes"]) == 4


def test_plain_images_are_worth_no_note(made: tiny.Arrays) -> None:
    assert made.prepared.report["notes"] == []


def test_an_imbalance_of_the_classes_is_worth_a_note() -> None:
    with tiny.prepared(relabelled(tiny.items(600), *["many"] * 19, "few")) as made:
        assert made.prepared.report["largest_to_smallest_class"] > 10
        assert any("the largest class has" in note for note in made.prepared.report["notes"])


def test_the_same_report_whatever_the_number_of_workers() -> None:
    items = tiny.items(700)
    with tiny.prepared(items) as one, tiny.prepared(items, workers=2) as other:
        assert one.prepared.report == other.prepared.report


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_array_is_refused_with_its_folder(file: str, length: int, made: tiny.Arrays) -> None:
    place = made.folder / "train" / file
    place.write_bytes(place.read_bytes()[:length])
    with pytest.raises(SlimlineError, match=f"{made.folder / 'train'}: damaged arrays"):
        load_split(made.folder, "train")


def test_an_array_that_needs_pickle_is_refused(made: tiny.Arrays) -> None:
    np.save(made.folder / "train" / "labels.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SlimlineError, match="damaged arrays"):
        load_split(made.folder, "train")


def test_missing_arrays_and_a_missing_description_name_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(SlimlineError, match="run the prepare stage"):
        load_split(tmp_path, "train")
    with pytest.raises(SlimlineError, match="run the prepare stage"):
        describe(tmp_path)


WRONG = json.dumps({"classes": [1, 2], "input_shape": ["a"], "counts": {}, "mean": [0.5], "std": [0.5], "digest": 7})


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", json.dumps({"name": "x"}), json.dumps({"classes": 3}), "\xff", WRONG])
def test_a_foreign_description_is_refused_with_its_path(content: str, made: tiny.Arrays) -> None:
    (made.folder / "dataset.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(SlimlineError, match=r"dataset.json: no description of prepared data"):
        describe(made.folder)


def test_images_of_another_shape_than_described_are_refused(made: tiny.Arrays) -> None:
    values = json.loads((made.folder / "dataset.json").read_text())
    (made.folder / "dataset.json").write_text(json.dumps(values | {"input_shape": [1, 9, 9]}))
    with pytest.raises(SlimlineError, match=r"images of \(1, 8, 8\), where dataset.json tells of \(1, 9, 9\)"):
        load_split(made.folder, "train")


def test_arrays_that_do_not_fit_together_are_refused(made: tiny.Arrays) -> None:
    labels = np.load(made.folder / "train" / "labels.npy")
    np.save(made.folder / "train" / "labels.npy", labels[:-1])
    with pytest.raises(SlimlineError, match="do not fit together"):
        load_split(made.folder, "train")


class Deadly(bytes):
    """What ends the process that unpickles it, as a decoder that crashes would."""

    def __reduce__(self):
        return os._exit, (3,)


def test_the_death_of_a_worker_is_told_with_the_image_from_which_on_it_happened() -> None:
    # All of the later ones, since the parent lends a hand, and to it they are only unreadable.
    deadly = [item._replace(content=Deadly()) if n > 300 else item for n, item in enumerate(tiny.items(3000))]
    assert re.search(r"a decoding process died at or after 'None 0 \d+'", refusal(deadly, workers=2, unreadable="skip"))


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """Files of more than 20 kB cannot be written, as on a disk that has no more room."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import tiny
from pathlib import Path
from slimline.data.prepare.arrays import prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    prepare(tiny.items(600), tiny.data(), Path(sys.argv[1]), seed=0, workers=int(sys.argv[3]))
except OSError as error:
    print(error.errno)
"""
    for limit, workers in ((20_000, 1), (20_000, 2)):
        done = subprocess.run([sys.executable, "-c", script, tmp_path, str(limit), str(workers)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "27"
        assert not (tmp_path / "spool").exists()


def test_shares_are_judged_among_the_images_that_were_divided() -> None:
    with tiny.prepared([*tiny.items(600), *tiny.items(300, seed=7, split="test")]) as made:
        found = made.prepared.report["stratification"]
        assert (found["split"], found["asked"]) == ("validation", 0.3)
        assert found["class"] in made.classes
        assert found["deviations"] < 4


ENDLESS = """
import sys, itertools, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import tiny
def endless():
    for seed in itertools.count():
        print("reading", flush=True)
        yield from tiny.items(300, seed=seed)
if __name__ == "__main__":
    with tiny.prepared(endless(), workers=2):
        pass
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_the_process_that_started_it(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS.format(tests=str(Path(__file__).parents[1])))
    process = subprocess.Popen([sys.executable, tmp_path / "endless.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(process.pid, how)
    process.stdout.close()
    process.wait(30)
    deadline = time.monotonic() + 20
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.1)


def test_wrong_labels_are_named_by_file_in_every_split() -> None:
    """Half of the images are dark, half are light; those labelled otherwise are found, whichever split they are in."""
    random = np.random.default_rng(0)
    levels = random.integers(0, 60, (900, 8, 8)) + 180 * (np.arange(900) % 2)[:, None, None]
    wrong = set(random.choice(900, 25, replace=False).tolist())
    items = [
        item._replace(content=pixels.astype(np.uint8), belongs=Membership("light" if (n % 2 == 1) != (n in wrong) else "dark"), origin=f"{n}.png")
        for n, (item, pixels) in enumerate(zip(tiny.items(900), levels, strict=True))
    ]
    with tiny.prepared(items, label_noise=True) as made:
        found = made.prepared.report["label_noise"]
    assert {one["file"] for one in found["files"]} == {f"{n}.png" for n in wrong}
    assert {one["split"] for one in found["files"]} == {"train", "validation", "test"}
    assert all(one["likelier"] == ("light" if int(one["file"].partition(".")[0]) % 2 else "dark") for one in found["files"])
    assert [note for note in made.prepared.report["notes"] if note.startswith("doubtful labels: 25 ")] != []
