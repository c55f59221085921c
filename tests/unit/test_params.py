"""params.yaml: what is shipped loads, and every slip is refused with its place, what was found and what is allowed."""

from pathlib import Path

import pytest

from slimline.errors import SlimlineError
from slimline.params.distill import Distill
from slimline.params.file import BLOCKS, load, plain
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.params.teacher import Teacher

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "params.yaml", *sorted(ROOT.glob("experiments/*/params.yaml"))]
TEXT = Path(__file__).with_name("shipped_params.yaml").read_text()  # a copy, so that users may edit theirs


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_every_shipped_file_is_valid(path) -> None:
    params = load(path)
    assert set(params.blocks) == set(BLOCKS)
    assert params.text == path.read_text()


def test_values_arrive_typed_and_defaults_filled_in() -> None:
    params = load(Path(__file__).with_name("shipped_params.yaml"))
    teacher = params.block("teacher", Teacher)
    assert teacher.fit.augment == ({"name": "shift", "pixels": 1, "outside": "black"},)
    assert teacher.fit.optimizer == {"name": "adamw", "lr": 0.003, "beta1": 0.9, "beta2": 0.999}
    assert plain(params.block("distill", Distill))["fit"]["label_smoothing"] == 0.0


def test_a_block_asked_for_with_anothers_schema_is_a_bug_not_a_refusal() -> None:
    with pytest.raises(TypeError):
        load(SHIPPED[0]).block("teacher", Distill)


def test_a_users_own_method_may_stand_wherever_a_name_does(tmp_path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("{name: resnet, depth: 20, width: 16}", "{name: 'tiny:Plain', width: 5}"))
    assert load(path).block("teacher", Teacher).model == {"name": "tiny:Plain", "width": 5}


def test_a_number_in_scientific_notation_is_a_number(tmp_path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("lr: 0.003", "lr: 1e-3"))
    assert load(path).block("teacher", Teacher).fit.optimizer["lr"] == 0.001


BLOCK = "seed, data, teacher, distill, prune, quantize, evaluate, hardware, tracking"
HARDWARE = "threads, workers, resident_mb"
FIT = ", ".join(Fit.model_fields)
ZOO = "binarynet, binarynet_conv, densenet, lenet300, lenet5, mlp, mobilenet, mobilenet_v2, resnet, vit, wide_resnet"
HARDWARE = ", ".join(Hardware.model_fields)
SLIPS = {
    # what was done: (text, its replacement, what must be told after the file's name)
    "misspelt block": ("teacher:\n", "techer:\n", f"techer: no such block; did you mean teacher? allowed here: {BLOCK}"),
    "alien block": ("seed: 0", "zzz: 1\nseed: 0", f"zzz: no such block; allowed here: {BLOCK}"),
    "missing block": ("hardware:\n  threads: 2\n", "", f"hardware: missing; needed are {BLOCK}"),
    "null block": (
        "hardware:\n  threads: 2\n",
        "hardware:\n",
        f"hardware: found null; a mapping is needed, with the keys {HARDWARE}",
    ),
    "text for a block": (
        "hardware:\n  threads: 2\n",
        "hardware: 2\n",
        f"hardware: found 2; a mapping is needed, with the keys {HARDWARE}",
    ),
    "missing seed": ("seed: 0", "", f"seed: missing; needed are {BLOCK}"),
    "misspelt key": ("epochs: 30", "epoch: 30", f"teacher.fit.epoch: no such parameter; did you mean epochs? allowed here: {FIT}"),
    "alien key": ("criterion: {", "zzz: 1\n  criterion: {", "prune.zzz: no such parameter; allowed here: criterion, granularity, target"),
    "misspelt key in a list of blocks": (
        "  loss: {name: soft_hard, temperature: 4.0, alpha: 0.9}\n  fit:",
        "  loss: {name: soft_hard, temperature: 4.0, alpha: 0.9}\n  assistants: [{}, {sed: 3}]\n  fit:",
        "distill.assistants.1.sed: no such parameter; did you mean seed? allowed here: model, loss, fit, seed",
    ),
    "missing key": (
        "  granularity: {name: channels, layer_limit: 0.9, multiple_of: 16}\n",
        "",
        "prune.granularity: missing; known here: criterion, granularity, target, schedule, sensitivity, calibration, loss, fit",
    ),
    "misspelt plugin parameter": (
        "temperature: 4.0",
        "temprature: 4.0",
        "distill.loss.temprature: no such parameter; did you mean temperature? allowed here: temperature, alpha",
    ),
    "misspelt parameter in a list": (
        "{name: shift, pixels: 1}",
        "{name: shift, pixel: 1}",
        "teacher.fit.augment.0.pixel: no such parameter; did you mean pixels?",
    ),
    "unknown plugin": (
        "resnet",
        "resnett",
        f'teacher.model.name: found "resnett"; did you mean resnet? allowed here: {ZOO}',
    ),
    "plugin without a name": (
        "{name: resnet,",
        "{",
        f"teacher.model.name: found null; the name of a method is needed: {ZOO}",
    ),
    "text for a plugin": ("{name: min_max}", "min_max", 'quantize.weights.scheme: found "min_max"; a mapping is needed'),
    "unimportable plugin": ("{name: min_max}", "{name: 'nowhere:x'}", "quantize.weights.scheme.name: cannot import 'nowhere:x'"),
    "text for a rate": ("lr: 0.003", 'lr: "1e-3"', 'teacher.fit.optimizer.lr: found "1e-3"; it should be a valid number'),
    "text for a count": ("epochs: 30", "epochs: thirty", 'teacher.fit.epochs: found "thirty"; it should be a valid integer'),
    "truth for a count": ("epochs: 30", "epochs: true", "teacher.fit.epochs: found true; it should be a valid integer"),
    "date for a count": ("epochs: 30", "epochs: 2026-01-01", 'teacher.fit.epochs: found "2026-01-01", a date; a number'),
    "negative epochs": ("epochs: 30", "epochs: -3", "teacher.fit.epochs: found -3; it should be greater than or equal to 1"),
    "no epoch": ("epochs: 15", "epochs: 0", "prune.fit.epochs: found 0; it should be greater than or equal to 1"),
    "alpha above one": ("alpha: 0.9", "alpha: 1.5", "distill.loss.alpha: found 1.5; it should be less than or equal to 1"),
    "alpha zero": ("alpha: 0.9", "alpha: 0", "distill.loss.alpha: found 0; it should be greater than 0"),
    "temperature zero": ("temperature: 4.0", "temperature: 0", "distill.loss.temperature: found 0; it should be greater than or equal to 0.001"),
    "a temperature that leaves nothing": ("temperature: 4.0", "temperature: 1e20", "distill.loss.temperature: found 1e+20; it should be less"),
    "misspelt norm": ("depth: 20, width: 16", "norm: {name: grup}", 'teacher.model.norm.name: found "grup"; did you mean group?'),
    "a norm's parameter": ("depth: 20, width: 16", "norm: {name: group}", "teacher.model.norm.groups: missing; known here: groups"),
    "text for a norm": ("depth: 20, width: 16", "norm: group", 'teacher.model.norm: found "group"; a mapping is needed, as {name: group}'),
    "nothing to prune": ("amount: 0.5", "amount: 0", "prune.target.amount: found 0; it should be greater than 0"),
    "everything to prune": ("amount: 0.5", "amount: 1", "prune.target.amount: found 1; it should be less than 1"),
    "more than everything": ("amount: 0.5", "amount: 1.2", "prune.target.amount: found 1.2; it should be less than 1"),
    "NaN": ("amount: 0.5", "amount: .nan", "prune.target.amount: found NaN; it should be a finite number"),
    "NaN in a plugin": ("lr: 0.003", "lr: .nan", "teacher.fit.optimizer.lr: found NaN; it should be a finite number"),
    "infinity in a plugin": ("lr: 0.003", "lr: .inf", "teacher.fit.optimizer.lr: found Infinity; it should be a finite number"),
    "no bit": ("bits: 8", "bits: 0", "quantize.weights.bits: found 0; it should be 64, 32, 16, 'bf16', 'e4m3', 'e5m2', 8, 7"),
    "one bit, nothing said of how": ("weights: {bits: 8,", "weights: {bits: 1,", "quantize.weights: weights of 1 bit and binary go together"),
    "a way to binarize, and no bit": (
        "weights: {bits: 8,",
        "weights: {binary: {name: xnor}, bits: 8,",
        "quantize.weights: weights of 1 bit and binary go together",
    ),
    "one bit read by eight": ("activations: {bits: 8,", "activations: {bits: 1,", "quantize: activations.bits is 1, which needs weights of 1 bit"),
    "eight bits read by one": (
        "weights: {bits: 8,",
        "weights: {binary: {name: xnor}, bits: 1,",
        "quantize: with weights of 1 bit activations have 1 bit (where such layers read them) or 32, without exceptions",
    ),
    "one bit of one tensor": (
        "activations: {bits: 8,",
        "activations: {exceptions: {'*': 1}, bits: 8,",
        "quantize: activations.exceptions: activations of 1 bit are what",
    ),
    "real activations of a binarized network": (
        "weights: {bits: 8, scheme: {name: min_max}}\n  activations: {bits: 8,",
        "weights: {binary: {name: binarized}, bits: 1, scheme: {name: min_max}}\n  activations: {bits: 32,",
        "quantize: weights.binary is binarized, which needs activations.bits 1, and found 32",
    ),
    "nine bits": ("bits: 8", "bits: 9", "quantize.weights.bits: found 9; it should be 64, 32, 16"),
    "half a bit": ("bits: 8", "bits: 8.5", "quantize.weights.bits: found 8.5; it should be 64, 32, 16"),
    "a misspelt way of learning": (
        "{bits: 8, scheme: {name: min_max}}",
        "{bits: 8, scheme: {name: min_max}, learn: {name: lsk}}",
        'quantize.weights.learn.name: found "lsk"; did you mean lsq? allowed here: lsq, pact',
    ),
    "codebooks of activations": (
        "activations: {bits: 8,",
        "activations: {codebook: {name: k_means}, bits: 8,",
        "quantize.activations.codebook: no such parameter; allowed here: bits, scheme, exceptions, symmetric, learn",
    ),
    "64 bits of a part": ("weights: {bits: 8,", "weights: {bits: 64,", "quantize: 64 bits are of the whole network: make weights.bits and"),
    "64 bits, equalized": (
        "bits: 8, scheme: {name: min_max}}\n  activations: {bits: 8,",
        "bits: 64, scheme: {name: min_max}}\n  equalize: true\n  activations: {bits: 64,",
        "quantize: equalize is of weights and activations on grids, and here are none; make it false",
    ),
    "a codebook of real numbers": (
        "weights: {bits: 8,",
        "weights: {codebook: {name: k_means}, bits: 16,",
        "quantize.weights: a codebook is for codes of 2 to 8 bits",
    ),
    "a way to binarize that is none": (
        "bits: 8, scheme: {name: min_max}}\n  activations: {bits: 8,",
        "bits: 1, binary: {name: 'slimline.pruning.magnitude:magnitude'}, scheme: {name: min_max}}\n  activations: {bits: 32,",
        "quantize: 'slimline.pruning.magnitude:magnitude' is no method that can stand here",
    ),
    "a learned scale of a codebook": (
        "weights: {bits: 8,",
        "weights: {codebook: {name: k_means}, learn: {name: lsq}, bits: 8,",
        "quantize.weights: a codebook is trained itself and has no scale; make learn null",
    ),
    "a codebook of floats": (
        "weights: {bits: 8,",
        "weights: {codebook: {name: k_means}, bits: 16,",
        "quantize.weights: a codebook is for codes of 2 to 8 bits, and none are asked for",
    ),
    "a learned scale of floats": (
        "activations: {bits: 8,",
        "activations: {learn: {name: pact}, bits: bf16, exceptions: {'*': 32},",
        "quantize.activations: learn moves the scales of integers, of 2 to 8 bits, and none are asked for",
    ),
    "impossible bits of one layer": (
        "weights: {bits: 8,",
        "weights: {exceptions: {'*.stem': 0}, bits: 8,",
        "quantize.weights.exceptions.*.stem: found 0",
    ),
    "nothing to train on": ("validation: 0.2", "validation: 0.8", "data: validation + test is 1, which leaves nothing to train on; make it less"),
    "no validation": ("validation: 0.2", "validation: 0", "data.validation: found 0; it should be greater than 0"),
    "two channels": ("channels: 1", "channels: 2", "data.channels: found 2; it should be 1 or 3"),
    "negative seed": ("seed: 0", "seed: -1", "seed: found -1; a whole number from 0 to 4294967295"),
    "true seed": ("seed: 0", "seed: true", "seed: found true; a whole number"),
    "text seed": ("seed: 0", "seed: zero", 'seed: found "zero"; a whole number'),
    "huge seed": ("seed: 0", "seed: 4294967296", "seed: found 4294967296; a whole number"),
    "no batch sizes": ("[1, 64]", "[]", "evaluate.latency.batch_sizes: found []; it should have at least 1 item"),
    "empty batch": ("[1, 64]", "[1, 0]", "evaluate.latency.batch_sizes.1: found 0; it should be greater than or equal to 1"),
    "list for a number": ("[1, 64]", "[1, [64]]", "evaluate.latency.batch_sizes.1: found [64]; it should be a valid integer"),
    "key twice": ("  calibration: 512", "  calibration: 512\n  calibration: 9", 'no valid YAML: line 62: found duplicate key "calibration"'),
    "broken YAML": ("seed: 0", "seed: [0", "no valid YAML: line"),
    "tab": ("  calibration: 512", "\tcalibration: 512", "no valid YAML: line"),
}
ATTACKS = "  attacks: {images: 9, budgets: {linf: [0.1]}, methods: {a: {name: fgsm}}}\n"
ATTACK_SLIPS = {
    "no such attack": ("fgsm", "fgms", 'methods.a.name: found "fgms"; did you mean fgsm?'),
    "no budget for a measure": ("name: fgsm", "name: fgsm, norm: l2", ": methods.a needs budgets.l2; found budgets of linf"),
    "a budget for nothing": ("{linf: [0.1]}", "{linf: [0.1], l2: [1.0]}", ": budgets.l2: no method is counted in it; the methods here are in linf"),
    "beyond the range": ("[0.1]", "[2.0]", ": budgets.linf: found 2; at most 1 means anything"),
    "a budget of zero": ("[0.1]", "[0.0]", "budgets.linf.0: found 0.0; it should be greater than 0"),
    "no budgets": ("[0.1]", "[]", "budgets.linf: found []; it should have at least 1 item"),
    "out of order": ("[0.1]", "[0.2, 0.1]", ": budgets.linf: found [0.2, 0.1]; they must ascend"),
    "steps that lead nowhere": ("name: fgsm", "name: pgd, steps: 5", ": methods.a.steps: found 5 of 0.1 of the budget"),
    "no methods": ("{a: {name: fgsm}}", "{}", "methods: found {}; Dictionary should have at least 1 item"),
    "no images": ("images: 9", "images: 0", "images: found 0; it should be greater than or equal to 1"),
}
GATE_SLIPS = {
    "no such metric": ("{acuracy_drop: 0.1}", "gates.acuracy_drop: no such parameter; did you mean accuracy_drop?"),
    "a text": ("{ece: small}", 'gates.ece: found "small"'),
    "never to be held": ("{accuracy_drop: 0.0}", "gates.accuracy_drop: found 0.0; it should be greater than 0"),
    "attacks that are not made": ("{robustness_drop: 0.1}", ": gates.robustness_drop needs attacks that are bounded by a distance"),
    "a batch that is not timed": ("{speed_up: 1.0}", ": gates.speed_up is about batches of one image: put 1 into latency.batch_sizes"),
}
FILES = {
    "empty": ("", f"found nothing; a mapping with the blocks {BLOCK} is needed"),
    "only comments": ("# soon\n", "found nothing; a mapping with the blocks"),
    "a list": ("- 1\n- 2\n", "found [1, 2]; a mapping with the blocks"),
    "a text": ("hello", 'found "hello"; a mapping with the blocks'),
}


def refusal(path: Path) -> str:
    with pytest.raises(SlimlineError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refused_in_one_line_with_its_place_what_was_found_and_what_is_allowed(slip, tmp_path) -> None:
    text, replacement, told = SLIPS[slip]
    assert text in TEXT, "the shipped file changed; choose another place for this slip"
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(text, replacement, 1))
    message = refusal(path)
    assert message.startswith(f"{path}: {told}")
    assert "\n" not in message


@pytest.mark.parametrize("slip", ATTACK_SLIPS)
def test_attacks_that_cannot_be_made_are_refused(slip, tmp_path) -> None:
    text, replacement, told = ATTACK_SLIPS[slip]
    assert text in ATTACKS
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("    warm_up: 20\n", "    warm_up: 20\n" + ATTACKS))
    load(path)
    path.write_text(TEXT.replace("    warm_up: 20\n", "    warm_up: 20\n" + ATTACKS.replace(text, replacement)))
    message = refusal(path)
    assert message.startswith(f"{path}: evaluate.attacks{told if told.startswith(':') else f'.{told}'}")
    assert "\n" not in message


@pytest.mark.parametrize("slip", GATE_SLIPS)
def test_gates_that_cannot_be_judged_are_refused_by_name(slip, tmp_path) -> None:
    gates, told = GATE_SLIPS[slip]
    path = tmp_path / "params.yaml"
    text = TEXT.replace("batch_sizes: [1, 64]", "batch_sizes: [64]")
    path.write_text(text.replace("    warm_up: 20\n", f"    warm_up: 20\n  gates: {gates}\n"))
    assert refusal(path).startswith(f"{path}: evaluate{told if told.startswith(':') else f'.{told}'}")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_holds_no_blocks_is_refused(kind, tmp_path) -> None:
    content, told = FILES[kind]
    path = tmp_path / "params.yaml"
    path.write_text(content)
    assert refusal(path).startswith(f"{path}: {told}")


def test_a_missing_file_is_refused_with_its_path(tmp_path) -> None:
    assert refusal(tmp_path / "params.yaml").startswith(f"{tmp_path / 'params.yaml'}: no such file")


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x00binary")
    assert "no valid YAML" in refusal(path)


def test_a_long_value_is_told_short(tmp_path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("epochs: 30", f"epochs: {'x' * 5000}", 1))
    assert len(refusal(path)) < 400


def test_smoothed_labels_under_a_teacher_are_refused(tmp_path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("optimizer: {name: adamw, lr: 0.005}", "label_smoothing: 0.1\n    optimizer: {name: adamw, lr: 0.005}"))
    with pytest.raises(SlimlineError, match=r"distill: fit.label_smoothing is 0.1, but with a loss the teacher's outputs take its place"):
        load(path)
