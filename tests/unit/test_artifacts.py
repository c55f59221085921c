"""A model on disk: four files, from which the very same network comes back."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import zstandard
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from torch import nn

import slimline
import tiny
from slimline.artifacts import Manifest, fresh, load, load_packed, packed, save
from slimline.core.resized import differing
from slimline.errors import SlimlineError
from slimline.evaluation.predict import shipped
from slimline.export.packed import provenance_of
from slimline.export.parity import parity
from slimline.export.runtime import OnnxModel
from slimline.paths import ModelFolder
from slimline.pruning.magnitude import magnitude
from slimline.quantization.calibrate import calibrated, plan

SHAPE = (1, 8, 8)
FILES = ("model.json", "model.safetensors", "model.onnx", "model.slim")
FORMS = ("float", "resized", "quantized", "four bits")
IMAGES = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(4))


@dataclass
class Saved:
    """A network, its manifest and where it was saved."""

    manifest: Manifest
    model: nn.Module
    folder: ModelFolder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> dict[str, Saved]:
    """The same small network in every form it can take, saved."""
    torch.set_num_threads(1)
    model, manifest = tiny.trained(), tiny.manifest()
    made: dict[str, tuple[Manifest, nn.Module]] = {"float": (manifest, model)}
    pruned = tiny.centred(tiny.cut_channels(model, magnitude(model, ()), SHAPE, amount=0.4, layer_limit=0.9), SHAPE)
    narrow = manifest.after("resized", differing(fresh(manifest), pruned))
    made["resized"] = narrow, pruned
    for form, bits in {"quantized": 8, "four bits": 4}.items():
        record = plan(pruned, SHAPE, weight_bits=bits, activation_bits=bits)
        network = calibrated(pruned, record, [IMAGES], weights={"name": "min_max"}, activations={"name": "min_max"})
        made[form] = narrow.after("quantized", record), network
    saved = {}
    for form, (description, network) in made.items():
        folder = ModelFolder(tmp_path_factory.mktemp("models") / form)
        save(folder, description, network)
        saved[form] = Saved(description, network, folder)
    return saved


@pytest.fixture
def copy(zoo, tmp_path) -> ModelFolder:
    """A copy of the quantized model's folder, to be damaged."""
    for file in FILES:
        (tmp_path / file).write_bytes((zoo["quantized"].folder.folder / file).read_bytes())
    return ModelFolder(tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_a_model_comes_back_from_its_folder_and_from_its_packed_file_to_the_last_bit(form, zoo) -> None:
    saved = zoo[form]
    expected = saved.model.eval()(IMAGES)
    for manifest, model in (load(saved.folder), load_packed(saved.folder.packed)):
        assert manifest == saved.manifest
        assert not model.training
        assert torch.equal(model(IMAGES), expected)
    assert torch.equal(slimline.load(saved.folder.packed)(IMAGES), expected)


@pytest.mark.parametrize("form", ["resized", "quantized"])
def test_the_same_model_gives_the_same_bytes_in_any_folder(form, zoo, tmp_path) -> None:
    saved = zoo[form]
    again = ModelFolder(tmp_path / "quite" / "another" / "place")
    save(again, *load(saved.folder))
    assert sorted(path.name for path in again.folder.iterdir()) == sorted((*FILES, "model.sha256"))
    for file in FILES:
        assert (again.folder / file).read_bytes() == (saved.folder.folder / file).read_bytes(), file


@pytest.mark.parametrize("form", FORMS)
def test_the_exported_model_computes_what_was_trained(form, zoo) -> None:
    saved = zoo[form]
    result = parity(saved.model, OnnxModel(saved.folder.onnx, threads=1), IMAGES.split(10))
    spread = float(saved.model(IMAGES).detach().std())
    assert len(saved.model(IMAGES).argmax(1).unique()) > 1
    assert result.images == 64
    assert result.agreement >= 0.98
    assert result.mean_difference <= 0.02 * spread
    assert result.largest_difference <= (1e-4 if form in ("float", "resized") else 0.5 * spread)


QUICK = ("resnet", "mobilenet", "vit", "lenet300")
"""The others take long, as ONNX's exporter does."""


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in tiny.ZOO])
def test_every_network_and_norm_keeps_its_function_when_cut_put_on_grids_saved_and_exported(name, tmp_path) -> None:
    manifest, model = tiny.manifest(name), tiny.trained(name)
    pruned = tiny.centred(tiny.cut_channels(model, magnitude(model, ()), SHAPE, amount=0.4, layer_limit=0.9), SHAPE)
    narrow = manifest.after("resized", differing(fresh(manifest), pruned))
    record = plan(pruned, SHAPE, weight_bits=8, activation_bits=8)
    network = calibrated(pruned, record, [IMAGES], weights={"name": "min_max"}, activations={"name": "min_max"})
    for form, (description, made) in {"resized": (narrow, pruned), "quantized": (narrow.after("quantized", record), network)}.items():
        folder = ModelFolder(tmp_path / form)
        save(folder, description, made)
        for _, again in (load(folder), load_packed(folder.packed)):
            assert torch.equal(again(IMAGES), made.eval()(IMAGES))
        result = parity(made, OnnxModel(folder.onnx, threads=1), IMAGES.split(10))
        assert result.agreement >= 0.98
        assert result.largest_difference <= (1e-5 if form == "resized" else 0.5 * float(made(IMAGES).detach().std()))


def test_parity_tells_another_model_apart(zoo) -> None:
    other = tiny.trained()
    with torch.no_grad():
        other.network.classifier.bias.add_(torch.tensor([5.0, 0.0, -5.0]))
    result = parity(other, OnnxModel(zoo["float"].folder.onnx, threads=1), [IMAGES])
    assert result.largest_difference > 4.9
    assert result.agreement == float((other(IMAGES).argmax(1) == zoo["float"].model(IMAGES).argmax(1)).float().mean()) < 1


@pytest.mark.parametrize("form", ["quantized", "four bits"])
def test_the_exported_file_holds_the_very_codes_of_the_stored_weights(form, zoo) -> None:
    folder = zoo[form].folder
    held = [numpy_helper.to_array(tensor) for tensor in onnx.load(folder.onnx).graph.initializer]
    stored = load_file(folder.weights)
    codes = {name: tensor.numpy() for name, tensor in stored.items() if tensor.dtype == torch.int8}
    biases = {name: tensor.numpy() for name, tensor in stored.items() if tensor.dtype == torch.int32}
    assert len(codes) == len(biases) == 6
    for name, code in (codes | biases).items():
        same = [array for array in held if array.dtype == code.dtype and array.size == code.size]
        assert any(np.array_equal(array, code) or (code.ndim == 2 and np.array_equal(array, code.T)) for array in same), name
    widest = max(int(np.abs(code.astype(int)).max()) for code in codes.values())
    assert widest == (127 if form == "quantized" else 7)


@pytest.mark.parametrize("form", ["quantized", "four bits"])
def test_every_weighted_layer_of_the_exported_file_reads_dequantized_integers(form, zoo) -> None:
    graph = onnx.load(zoo[form].folder.onnx).graph
    maker = {name: node for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) == 6
    for node in layers:
        for name in node.input[1:2]:
            made = maker[name]
            while made.op_type in ("Transpose", "Identity"):
                made = maker[made.input[0]]
            assert made.op_type == "DequantizeLinear", node.name


@pytest.mark.parametrize("form", FORMS)
def test_no_file_tells_of_this_machine_or_needs_pickle(form, zoo) -> None:
    folder = zoo[form].folder
    traces = [str(Path.cwd()), str(folder.folder), str(Path(slimline.__file__).parent), sys.prefix, "pickle", ".py", "torch.nn", "site-packages"]
    for file in FILES:
        content = (folder.folder / file).read_bytes()
        if file == "model.slim":
            content += zstandard.ZstdDecompressor().decompress(content[42 : 42 + int.from_bytes(content[38:42], "little")])
        assert not [trace for trace in traces if trace.encode() in content], file


def test_the_packed_file_is_the_smallest_and_narrow_codes_make_it_smaller(zoo) -> None:
    sizes = {form: saved.folder.packed.stat().st_size for form, saved in zoo.items()}
    assert all(size < zoo[form].folder.weights.stat().st_size for form, size in sizes.items())
    assert sizes["float"] > sizes["resized"] > sizes["quantized"] > sizes["four bits"]


def test_the_packed_file_names_what_it_was_made_of_at_no_cost_and_a_changed_name_is_noticed(zoo, tmp_path) -> None:
    saved, path, fingerprint = zoo["four bits"], tmp_path / "model.slim", "0123456789abcdef" * 4
    without = packed(saved.manifest, saved.model)
    path.write_bytes(packed(saved.manifest, saved.model, fingerprint))
    content = path.read_bytes()
    assert provenance_of(path) == fingerprint[:32]
    assert provenance_of(saved.folder.packed) is None
    assert (len(content), content[38:]) == (len(without), without[38:])
    assert load_packed(path)[0] == saved.manifest
    path.write_bytes(content[:30] + bytes([content[30] ^ 1]) + content[31:])
    with pytest.raises(SlimlineError, match="truncated or altered"):
        provenance_of(path)


@pytest.mark.parametrize("form", ["quantized", "four bits"])
def test_codes_take_hardly_more_bits_than_their_entropy(form, zoo) -> None:
    """All tensors of bytes by one table each for signed and unsigned ones, which is the most that they may take; some save a table's entries."""
    content = zoo[form].folder.packed.read_bytes()
    frame = int.from_bytes(content[38:42], "little")
    state = load_file(zoo[form].folder.weights)
    bound, entries = 0.0, 0
    for kind in (torch.int8, torch.uint8):
        codes = torch.cat([tensor.flatten() for tensor in state.values() if tensor.dtype == kind])
        counts = codes.unique(return_counts=True)[1].double()
        bound += float((counts * torch.log2(counts.sum() / counts)).sum()) / 8
        entries += len(counts)
    assert len(content) - 42 - frame <= bound * 1.005 + 4 + 1.3 * entries


def test_the_exported_file_says_its_classes_and_takes_any_batch(zoo) -> None:
    path = zoo["quantized"].folder.onnx
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert properties["classes"] == list(zoo["quantized"].manifest.classes)
    assert properties["preprocessing"]["mean"] == [0.4]
    model = OnnxModel(path, threads=1)
    for batch in (1, 2, 7):
        assert model(IMAGES[:batch].numpy()).shape == (batch, 3)


def refused(folder: ModelFolder) -> str:
    with pytest.raises(SlimlineError) as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_missing_file_is_refused_with_the_folder_and_its_name(file, copy) -> None:
    (copy.folder / file).unlink()
    message = refused(copy)
    assert message.startswith(f"{copy.folder}: no model here")
    assert file in message


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_the_folder(file, share, copy) -> None:
    content = (copy.folder / file).read_bytes()
    (copy.folder / file).write_bytes(content[: int(len(content) * share)])
    assert str(copy.folder) in refused(copy)


FOREIGN = {
    "a list": [],
    "a number": 3,
    "another schema": {"hello": "world"},
    "a later format": {"format": 2},
    "an unknown architecture": {"architecture": {"name": "alexnet"}},
    "no architecture": {"architecture": {}},
    "an impossible architecture": {"architecture": {"name": "mobilenet", "width": -3}},
    "another architecture": {"architecture": {"name": "resnet", "depth": 8, "width": 4}},
    "other images": {"input_shape": [3, 8, 8]},
    "an unknown form": {"forms": [{"form": "melted", "record": {}}]},
    "no form": {"forms": []},
    "a form without record": {"forms": [{"form": "resized"}]},
    "a form without name": {"forms": [{}]},
    "a form with a list for a record": {"forms": [{"form": "resized", "record": []}]},
    "a form with text for a number": {"forms": [{"form": "resized", "record": {"network.classifier": {"in_features": "x", "out_features": 3}}}]},
    "a missing class": {"classes": ["a", "b"]},
    "two means": {"mean": [0.4, 0.4]},
    "no deviation": {"std": [0.0]},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_manifest_is_refused_with_the_folder(kind, copy) -> None:
    change = FOREIGN[kind]
    known = json.loads(copy.manifest.read_text())
    copy.manifest.write_text(json.dumps({**known, **change} if isinstance(change, dict) and kind != "another schema" else change))
    assert str(copy.folder) in refused(copy)


@pytest.mark.parametrize("change", ["missing", "added", "shape"])
def test_tensors_that_do_not_fit_the_manifest_are_refused_with_the_folder(change, copy) -> None:
    state = load_file(copy.weights)
    name = "network.classifier.weight"
    if change == "missing":
        del state[name]
    else:
        state["alien" if change == "added" else name] = torch.zeros(1, dtype=torch.int8)
    save_file(state, copy.weights)
    assert str(copy.folder) in refused(copy)


def test_a_pickle_in_the_place_of_tensors_is_refused(copy) -> None:
    torch.save({"weight": torch.zeros(3)}, copy.weights)
    assert str(copy.folder) in refused(copy)


def test_a_save_that_fails_leaves_the_old_model_whole(copy) -> None:
    before = {file: (copy.folder / file).read_bytes() for file in FILES}
    _, model = load(copy)
    with pytest.raises(ValueError, match="float"):
        save(copy, tiny.manifest().model_copy(update={"mean": (float("nan"),)}), model)
    assert {file: (copy.folder / file).read_bytes() for file in FILES} == before
    assert [path.name for path in copy.folder.parent.iterdir() if path.name.endswith(".part")] == []


def packed_refused(path: Path, told: str) -> None:
    with pytest.raises(SlimlineError, match=told) as refusal:
        load_packed(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_packed_file_is_refused(share, copy) -> None:
    content = copy.packed.read_bytes()
    copy.packed.write_bytes(content[: int(len(content) * share)])
    packed_refused(copy.packed, "truncated or altered")


def test_one_flipped_bit_anywhere_in_a_packed_file_is_refused(copy) -> None:
    content = copy.packed.read_bytes()
    for place in [*range(40), *range(40, len(content), 97), len(content) - 1]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        copy.packed.write_bytes(flipped)
        packed_refused(copy.packed, "does not begin with SLIM|packed format|truncated or altered")


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit_in_any_file_of_a_folder_is_refused(file, zoo, tmp_path) -> None:
    target = ModelFolder(shutil.copytree(zoo["float"].folder.folder, tmp_path / "model"))
    content = (target.folder / file).read_bytes()
    places = [*range(0, len(content), len(content) // 24), len(content) - 1]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        (target.folder / file).write_bytes(flipped)
        assert str(target.folder) in refused(target)
        if file in ("model.onnx", "model.slim"):
            with pytest.raises(SlimlineError, match=f"{file}: truncated or altered"):
                shipped(target.folder / file, threads=1)
    (target.folder / file).write_bytes(content)
    load(target)
    for lines in (b"", target.digests.read_bytes().replace(file.encode(), b"another")):
        target.digests.write_bytes(lines)
        assert f"{file}: truncated or altered" in refused(target) or not lines


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no coreutils here")
def test_the_digests_of_a_folder_can_be_checked_without_slimline(zoo) -> None:
    saved = zoo["float"].folder
    checked = subprocess.run(["sha256sum", "--strict", "--check", saved.digests.name], cwd=saved.folder, capture_output=True, text=True, check=True)
    assert sorted(checked.stdout.splitlines()) == sorted(f"{file}: OK" for file in FILES)


@pytest.mark.parametrize(
    "content", [b"", b"SLI", b"\x89PNG\r\n", b"PK\x03\x04" + bytes(100), b"SLIM", b"SLIM\x04\x00", b"SLIM\x03\x00", b"SLIM\x01\x00" + bytes(99)]
)
def test_a_foreign_file_is_no_packed_model(content, tmp_path) -> None:
    (tmp_path / "model.slim").write_bytes(content)
    packed_refused(tmp_path / "model.slim", "no packed model|truncated or altered|packed format [0-3], where this version reads 4")


@pytest.mark.parametrize("shape", [[2**62], [10**15, 10**15], [-1]])
def test_a_packed_file_that_claims_more_numbers_than_memory_holds_is_refused(shape, tmp_path) -> None:
    header = json.dumps({"manifest": {}, "tensors": [["weight", "int8", shape, 0, None]], "alphabets": [[True, 0, 1]]}).encode()
    frame = zstandard.ZstdCompressor().compress(len(header).to_bytes(4, "little") + header + bytes(2))
    content = bytes(16) + len(frame).to_bytes(4, "little") + frame
    (tmp_path / "model.slim").write_bytes(b"SLIM\x04\x00" + hashlib.sha256(content).digest()[:16] + content)
    packed_refused(tmp_path / "model.slim", "no packed model, though its checksum matches")


def test_a_missing_packed_file_is_refused_with_its_path(tmp_path) -> None:
    packed_refused(tmp_path / "model.slim", "cannot be read")


@pytest.mark.parametrize("content", [None, b"", b"no onnx"])
def test_an_exported_file_that_cannot_run_is_refused_with_its_path(content, tmp_path) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(SlimlineError, match=r"model.onnx: ONNX Runtime cannot load it"):
        OnnxModel(tmp_path / "model.onnx", threads=1)
