"""The tables of README.md, from results.json."""

from pathlib import Path

from experiments.lab import readme, said
from experiments.one_bit_tables import parts

HERE = Path(__file__).resolve().parent
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
    return readme(HERE, said(HERE / "results.json", parts(LABELS, PAIRS)))
