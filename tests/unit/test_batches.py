"""Reading ahead, mapped files, and where the images of a split end up."""

import gc
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tiny
from slimline.data.batches import Ordered
from slimline.data.prepared import Images, load_split
from slimline.data.resident import Mapped, container_bytes, free_bytes, read_ahead, resident
from slimline.data.shuffled import Mixing, Shuffled
from slimline.data.sources.item import SPLITS
from slimline.distillation.taught import Taught
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.tracking.memory import MemoryTracker

CPU = torch.device("cpu")


@pytest.fixture
def prepared() -> Iterator[Path]:
    """40 images of 8×8 in three classes a split."""
    images = [item for seed, split in enumerate(SPLITS) for item in tiny.items(40, classes=3, seed=seed, split=split)]
    with tiny.prepared(images) as made:
        yield made.folder


def mapped(folder: Path) -> Mapped:
    images = load_split(folder, "train")
    return Mapped(images.pixels, images.labels, CPU)


def readers() -> int:
    return sum(thread.name.startswith("read-ahead") for thread in threading.enumerate())


# Reading ahead.


def test_what_is_read_ahead_comes_in_order() -> None:
    assert list(read_ahead(lambda n: n * n, range(20), 3)) == [n * n for n in range(20)]
    assert list(read_ahead(lambda n: n, [], 3)) == []
    assert readers() == 0


def test_no_more_is_made_ahead_than_was_allowed() -> None:
    made: list[int] = []
    results = read_ahead(made.append, range(100), 3)
    next(results)
    for _ in range(100):
        time.sleep(0.001)
        assert len(made) <= 4
    assert len(made) == 4, "the one that was asked for, and three ahead"
    results.close()


@pytest.mark.parametrize("leave", [lambda results: results.close(), lambda results: None])
def test_the_thread_ends_when_the_iterator_is_closed_or_forgotten(leave) -> None:
    made: list[int] = []
    results = read_ahead(made.append, range(1000), 3)
    next(results)
    assert readers() == 1
    leave(results)
    del results
    gc.collect()
    assert readers() == 0
    assert len(made) <= 4


def test_an_exception_is_raised_where_its_result_would_have_come_and_ends_the_thread() -> None:
    results = read_ahead(lambda n: 12 // (3 - n), range(10), 4)
    assert [next(results) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert readers() == 0


def test_an_exception_in_the_loop_over_batches_ends_the_thread(prepared) -> None:
    def loop() -> None:
        for _ in Shuffled(mapped(prepared), 4, 0):
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        loop()
    gc.collect()
    assert readers() == 0


def test_a_mapped_split_can_be_passed_over_twice_at_once(prepared) -> None:
    split = Ordered(mapped(prepared), 7)
    assert all(torch.equal(x, other) for (x, *_), (other, *_) in zip(split, split, strict=True))


# Where images are.


def test_images_that_fit_are_copied_to_a_device_and_others_read_ahead(prepared) -> None:
    images = load_split(prepared, "train")
    near = resident(images, torch.device("meta"))
    assert isinstance(near, Images)
    assert near.home.type == near.labels.device.type == "meta"
    far = resident(images, torch.device("meta"), limit_mb=0)
    assert isinstance(far, Mapped)
    assert far.device.type == "meta"
    assert far.pixels is images.pixels
    assert len(far) == len(near) == 40


def test_on_the_processor_images_are_never_copied(prepared) -> None:
    images = load_split(prepared, "train")
    assert resident(images, CPU) is images
    far = resident(images, CPU, limit_mb=0)
    assert isinstance(far, Mapped)
    assert far.pixels is images.pixels


def test_the_limit_is_told_in_millions_of_bytes() -> None:
    images = Images(torch.zeros(1000, 1, 40, 50, dtype=torch.uint8), torch.zeros(1000, dtype=torch.int64))
    assert isinstance(resident(images, CPU, limit_mb=2), Images)
    assert isinstance(resident(images, CPU, limit_mb=1), Mapped)


def test_memory_that_torch_holds_ready_on_a_gpu_is_free(monkeypatch) -> None:
    """10 bytes are free; of the 70 that torch has taken, 30 hold no tensor."""
    for name, answer in (("mem_get_info", (10, 100)), ("memory_reserved", 70), ("memory_allocated", 40)):
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer)
    assert free_bytes(torch.device("cuda")) == 40


@pytest.mark.parametrize("left", [[], [5_000], [5_000, 3_000], [10**12]])
def test_a_split_takes_half_of_what_machine_and_container_leave(monkeypatch, left) -> None:
    monkeypatch.setattr("slimline.data.resident.psutil.virtual_memory", lambda: SimpleNamespace(available=6_000))
    monkeypatch.setattr("slimline.data.resident.container_bytes", lambda: left)
    most = min([6_000, *left])
    assert free_bytes(CPU) == most
    for size, kind in ((most // 2, Images), (most // 2 + 1, Mapped)):
        images = Images(torch.zeros(size, 1, 1, 1, dtype=torch.uint8), torch.zeros(size, dtype=torch.int64))
        assert isinstance(resident(images, CPU), kind)


def group(folder: Path, version: int, limit: object, used: int, files: int) -> None:
    """A control group as the kernel shows it."""
    names, prefix = (("limit_in_bytes", "usage_in_bytes"), "total_") if version == 1 else (("max", "current"), "")
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in zip(names, (limit, used), strict=True):
        (folder / f"memory.{name}").write_text(f"{number}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{prefix}inactive_file {files - 1}\n{prefix}active_file 1\n")


@pytest.mark.parametrize(
    ("version", "line", "top"), [(1, "4:memory:/box/job", "sys/fs/cgroup/memory"), (2, "0::/box/job", "sys/fs/cgroup")], ids=["v1", "v2"]
)
def test_a_container_leaves_what_is_not_used_but_for_pages_of_files(tmp_path, version, line, top) -> None:
    assert container_bytes(tmp_path) == [], "no control groups at all"
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"9:name=systemd:/\n8:cpu:/else\n{line}\n")
    assert container_bytes(tmp_path) == [], "none of memory"
    group(tmp_path / top, version, 10_000, 4_000, 1_000)
    assert container_bytes(tmp_path) == [7_000], "seen from within the container"
    group(tmp_path / top / "box/job", version, 500, 600, 50)
    group(tmp_path / top / "box", version, "max", 600, 50)
    assert container_bytes(tmp_path) == [0, 7_000], "the group's own and those around it; over its limit is not below none"


def test_evaluation_knows_no_augmentation() -> None:
    """So that a change of these leaves it fresh."""
    known = subprocess.run([sys.executable, "-c", "import sys, slimline.stages.evaluate; print(*sys.modules)"], capture_output=True, text=True)
    assert "slimline.data.batches" in known.stdout.split()
    for name in ("augment", "mix", "shuffled", "resident"):
        assert f"slimline.data.{name}" not in known.stdout.split()
    assert "slimline.runtime.fit" not in known.stdout.split()


def test_a_split_is_mapped_without_a_warning_and_never_written(prepared) -> None:
    before = (prepared / "train/images.npy").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load_split(prepared, "train")
        batches = list(Shuffled(images, 8, 0, ({"name": "noise"},)))
    assert len(batches) == 5
    images.pixels.zero_()
    assert (prepared / "train/images.npy").read_bytes() == before


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_that_is_no_class_is_refused_with_its_split(prepared, wrong) -> None:
    labels = np.load(prepared / "train/labels.npy")
    labels[-1] = wrong
    np.save(prepared / "train/labels.npy", labels)
    with pytest.raises(SlimlineError, match=r"train: labels from (-1 to 2|0 to 3) of 3 classes, which are 0 to 2; run the prepare stage again"):
        load_split(prepared, "train")


# Training on them.


def trained(prepared: Path, resident_mb: int | None = None, **changes: object) -> tuple[dict[str, torch.Tensor], list[float]]:
    torch.manual_seed(0)
    settings = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}, "schedule": {"name": "constant"}}
    params = Fit.model_validate(settings | {"augment": ({"name": "rotate"}, {"name": "shift", "pixels": 1})} | changes)
    module = Classifier(tiny.trained(), params, LabelsAlone(params.label_smoothing))
    fit(module, prepared, params, Settings(0, Hardware(threads=1, resident_mb=resident_mb)), tracker=MemoryTracker(), name="training")
    return dict(module.model.state_dict()), [row.train_loss for row in module.history]


@pytest.mark.parametrize("mix", [None, {"name": "cutmix"}])
def test_training_ends_in_the_same_weights_resident_or_mapped(prepared, mix) -> None:
    (near, losses), (far, other_losses) = trained(prepared, mix=mix), trained(prepared, resident_mb=0, mix=mix)
    assert losses == other_losses
    assert all(torch.equal(tensor, far[name]) for name, tensor in near.items())
    assert readers() == 0


def test_a_mix_and_smoothed_labels_reach_the_loss(prepared) -> None:
    losses = [trained(prepared, **changes)[1] for changes in ({}, {"mix": {"name": "mixup"}}, {"mix": {"name": "mixup"}, "label_smoothing": 0.1})]
    assert losses[0] != losses[1] != losses[2]


def test_a_student_learns_from_mixed_images_of_its_teacher(prepared) -> None:
    (batch,) = Shuffled(load_split(prepared, "train"), 40, 0, mix=Mixing({"name": "mixup"}, 3))
    taught = Taught(tiny.trained(), tiny.trained(), tiny.loss_spec("soft_hard"), (1, 8, 8))
    student = torch.randn(40, 3, requires_grad=True)
    taught(batch, lambda _: student).backward()
    assert student.grad is not None
    whole = taught(batch._replace(labels=batch.labels.argmax(1)), lambda _: student)
    assert not torch.equal(whole, taught(batch, lambda _: student))
