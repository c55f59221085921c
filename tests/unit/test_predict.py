"""`slimline predict`: from image files to classes, by either file of a model."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import slimline
import tiny
from slimline import cli
from slimline.artifacts import load, save
from slimline.data.batches import Ordered
from slimline.data.prepare.arrays import prepare
from slimline.data.prepared import describe, load_split
from slimline.data.sources.images import images
from slimline.errors import SlimlineError
from slimline.evaluation.predict import probabilities, shipped
from slimline.export.runtime import check_images
from slimline.params.data import Data
from slimline.paths import ModelFolder
from slimline.quantization.calibrate import calibrated, plan

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = tiny.trained("lenet5")
    record = plan(model, SHAPE)
    images = torch.rand(16, *SHAPE)
    network = calibrated(model, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"})
    home = tmp_path_factory.mktemp("predict")
    save(ModelFolder(home / "model"), tiny.manifest("lenet5").after("quantized", record), network.eval())
    draws = np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 256, (8, 8), dtype=np.uint8)).save(home / "grey.png")
    Image.fromarray(draws.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(home / "colours.png")
    (home / "broken.png").write_bytes(b"no image")
    (home / "damaged.onnx").write_bytes((home / "model" / "model.onnx").read_bytes().replace(b"MaxPool", b"\xf7axPool"))
    return home


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch) -> None:
    """A folder without params.yaml."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> None:
    cli.main(["predict", *map(str, arguments)])


@pytest.mark.parametrize("file", ["", "model.slim", "model.onnx"])
def test_the_classes_of_an_image_come_with_their_probabilities_from_either_file(file, folder, capsys) -> None:
    run(folder / "grey.png", folder / "colours.png", "--model", folder / "model" / file, "--json")
    found = json.loads(capsys.readouterr().out)
    assert [one["image"] for one in found] == [str(folder / "grey.png"), str(folder / "colours.png")]
    pixels = torch.from_numpy(np.array(Image.open(folder / "grey.png"))).float() / 255
    network = slimline.load(folder / "model" / "model.slim")
    expected = network(pixels[None, None]).detach().softmax(1)[0]
    assert list(found[0]["probabilities"]) == ["class 0", "class 1", "class 2"]
    assert list(found[0]["probabilities"].values()) == pytest.approx(expected.tolist(), abs=0.02)
    assert sum(found[1]["probabilities"].values()) == pytest.approx(1)


def test_the_likeliest_classes_come_first_one_line_an_image(folder, capsys) -> None:
    run(folder / "grey.png", "--model", folder / "model", "--top", 2)
    (line,) = capsys.readouterr().out.splitlines()
    path, *shown = line.split("  ")
    numbers = [float(part.rsplit(" ", 1)[1]) for part in shown]
    assert path == str(folder / "grey.png")
    assert len(numbers) == 2
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize(("resize", "background"), [("fit", 255), ("pad", 0), ("crop", 128)])
def test_either_file_alone_prepares_images_as_the_stage_prepare_did(resize, background, folder, tmp_path, capsys) -> None:
    """Of odd sizes, with transparency, turned by their EXIF; through the very function that makes prepared data."""
    draws = np.random.default_rng(1)
    pictures = tmp_path / "raw"
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    for label in ("a", "b"):
        (pictures / "test" / label).mkdir(parents=True)
        Image.fromarray(draws.integers(0, 256, (37, 11, 4), dtype=np.uint8)).save(pictures / "test" / label / "1.png")
        Image.fromarray(draws.integers(0, 256, (9, 53, 3), dtype=np.uint8)).save(pictures / "test" / label / "2.jpg", exif=turned)
        for split in ("train", "val"):
            (pictures / split / label).mkdir(parents=True)
            Image.fromarray(draws.integers(0, 256, (8, 8), dtype=np.uint8)).save(pictures / split / label / "3.png")
    how = {"size": 8, "channels": 1, "resize": resize, "background": background, "validation": 0.1, "test": 0.1, "label_noise": False}
    made = tmp_path / "prepared"
    made.mkdir()
    data = Data.model_validate({"source": {"name": "images", "path": "raw"}, **how})
    prepare(images(tmp_path, path="raw"), data, made, seed=0, workers=1).write_files(tmp_path / "files.csv")
    manifest, network = load(ModelFolder(folder / "model"))
    about = describe(made)
    target = ModelFolder(tmp_path / "model")
    save(target, manifest.model_copy(update={"resize": about.resize, "background": about.background}), network)
    with (tmp_path / "files.csv").open(newline="") as text:
        names = [pictures / Path(row["file"]) for row in csv.DictReader(text) if row["split"] == "test"]
    prepared = [batch.images for batch in Ordered(load_split(made, "test"), 100)]
    for file in ("model.slim", "model.onnx"):
        alone = tmp_path / f"{file} alone" / file
        alone.parent.mkdir()
        shutil.copy(target.folder / file, alone)
        shown = shipped(alone, threads=1)
        expected = torch.from_numpy(shown.run(torch.cat(prepared).numpy())).double().softmax(1)
        run(*names, "--model", alone, "--json")
        found = [list(one["probabilities"].values()) for one in json.loads(capsys.readouterr().out)]
        assert len(found) == 4
        assert np.array_equal(found, expected.numpy())
        run(*names, "--model", alone, "--json", "--resize", "pad" if resize != "pad" else "fit")
        other = [list(one["probabilities"].values()) for one in json.loads(capsys.readouterr().out)]
        assert not np.array_equal(other, expected.numpy()), "the way to resize matters here"


def test_many_images_are_classified_as_each_alone(folder) -> None:
    model = shipped(folder / "model", threads=1)
    pair = [folder / "grey.png", folder / "colours.png"]
    many = probabilities(model, pair * 40)
    alone = [probabilities(model, [image])[0] for image in pair]
    assert np.allclose(many, np.array(alone * 40), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere.png", "--model", "{}/model"), "nowhere.png: cannot be opened"),
        (("{}/broken.png", "--model", "{}/model"), "broken.png: is no image that can be read"),
        (("{}/grey.png", "--model", "{}/nowhere"), "nowhere: no model here; name a folder that holds model.onnx or model.slim"),
        (("{}/grey.png", "--model", "{}/broken.png"), "broken.png: ONNX Runtime cannot load it"),
        (("{}/grey.png", "--model", "{}/damaged.onnx"), "damaged.onnx: ONNX Runtime cannot load it"),
        (("{}/grey.png", "--model", "{}/model", "--top", "0"), "'0' is no whole number from 1 on"),
        (("{}/grey.png", "--model", "{}/model", "--threads", "99999"), "threads: found 99999; take 1 to 1024"),
        (("{}/grey.png", "--model", "{}/model", "--background", "300"), "--background: found 300; a grey level from 0 to 255"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_two(arguments, told, folder, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*(argument.format(folder) for argument in arguments))
    assert ended.value.code == 2
    written = capsys.readouterr()
    assert told in written.err.splitlines()[-1]
    assert written.out == ""


def test_a_packed_file_runs_as_a_session_too(folder) -> None:
    images = torch.rand(5, *SHAPE)
    packed = folder / "model" / "model.slim"
    session = slimline.load(packed, runtime="onnxruntime")
    with pytest.raises(SlimlineError, match="runtime is 'tensorrt'; take torch, onnxruntime or xnor"):
        slimline.load(packed, runtime="tensorrt")  # type: ignore[call-overload]
    for threads in (0, 99_999):
        with pytest.raises(SlimlineError, match=f"threads: found {threads}; take 1 to 1024"):
            slimline.load(packed, runtime="onnxruntime", threads=threads)
    told = r"images: found {}, where this network takes an array, float32 \[batch 1 8 8\]"
    for wrong, found in ((images.double().numpy(), r"float64 \[5, 1, 8, 8\]"), (images[:, :, 1:].numpy(), r"float32 \[5, 1, 7, 8\]")):
        with pytest.raises(SlimlineError, match=told.format(found)):
            session(wrong)
    for wrong, found in ((images[0].numpy(), r"float32 \[1, 8, 8\]"), (images, "a Tensor")):  # of types that are checked while tests run
        with pytest.raises(SlimlineError, match=told.format(found)):
            check_images(wrong, SHAPE)
    assert session.runtime == "onnxruntime"
    assert np.allclose(session(images.numpy()), slimline.load(packed)(images).detach().numpy(), atol=1e-4)
