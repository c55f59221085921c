"""The tables of README.md, from results.json."""

from pathlib import Path

from experiments.lab import Records, said
from experiments.one_bit_tables import differences, equal, networks
from slimline.report.record import between

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.binary_cifar10.measure record` from results.json -->", "<!-- end of results -->"
LABELS = {
    "real": ("real numbers, ReLU", "10.64%"),
    "connect": ("BinaryConnect, signs", "9.90%"),
    "real_hard_tanh": ("real numbers, hard tanh", "–"),
    "binarized": ("binarized weights and activations", "10.15%"),
    "xnor": ("XNOR-Net: the same with scaling factors", "10.17%"),
}
PAIRS = (("connect", "real"), ("binarized", "real_hard_tanh"), ("xnor", "real_hard_tanh"), ("xnor", "binarized"), ("real_hard_tanh", "real"))


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json", parts))


def parts(records: Records, images: int) -> list[str]:
    return [networks(records, images, LABELS), differences(records, images, LABELS, PAIRS), equal(records, images)]
