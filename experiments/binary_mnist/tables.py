"""The tables of README.md, from results.json."""

from pathlib import Path

from experiments.lab import readme, said
from experiments.one_bit_tables import parts

HERE = Path(__file__).resolve().parent
LABELS = {
    "real": ("real numbers, ReLU", "1.30%"),
    "real_dropout": ("the same with dropout 0.5", "1.01%"),
    "connect": ("BinaryConnect, signs", "1.29%"),
    "connect_stochastic": ("BinaryConnect, drawn signs", "1.18% (by latent weights)"),
    "real_hard_tanh": ("real numbers, hard tanh", "–"),
    "binarized": ("binarized weights and activations", "0.96%"),
}
PAIRS = (
    ("connect", "real"),
    ("connect_stochastic", "real"),
    ("real_dropout", "real"),
    ("connect_stochastic", "connect"),
    ("binarized", "real_hard_tanh"),
)


def renewed() -> str:
    """README.md with what results.json says."""
    return readme(HERE, said(HERE / "results.json", parts(LABELS, PAIRS)))
