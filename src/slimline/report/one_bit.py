"""The page's section on a network of one bit: its bytes and its speed beside its own architecture in real numbers and in 8 bits."""

from dataclasses import dataclass

from markupsafe import Markup

from slimline.report.numbers import count, milliseconds, percent, size, times
from slimline.report.rendering import render
from slimline.report.words import SHIPPED, Level, Numbers, batch, pace

WAYS = {
    "fp32": "ONNX Runtime, real numbers",
    "int8": "ONNX Runtime, 8 bits",
    "binary": "ONNX Runtime, one bit in 8-bit codes",
    "xnor": "packed bits",
}
"""The ways to run it, as `evaluation.one_bit` names them."""

AGAINST = {"fp32": "real numbers", "int8": "8 bits"}


@dataclass(frozen=True)
class Way:
    """A row: what it is called, its bytes, and a cell a column."""

    name: str
    bytes: str
    cells: list[str]


def section(scorecard: Numbers, latency: Numbers, level: Level) -> Markup:
    """The section; nothing where the network to ship has no layers that run on bits.

    Args:
        scorecard, latency: as `report.page` takes them.
    """
    told = latency.get("one_bit")
    if told is None:
        return Markup()
    sizes = {**told["onnx_bytes"], "xnor": scorecard["models"][SHIPPED]["packed_bytes"]}
    batches = list(told["models"]["fp32"])
    ways = [
        Way(
            name, size(sizes[way]), [cell for key in batches for cell in (milliseconds(told["models"][way][key]["p50_ms"]), *_faster(told, way, key))]
        )
        for way, name in WAYS.items()
    ]
    columns = [f"{what}, {batch(key)}" for key in batches for what in ("ms", *(f"faster than {other}" for other in AGAINST.values()))]
    speeds = [_said(told, other, key) for key in batches for other in AGAINST]
    html = render(
        "one_bit.html",
        columns=columns,
        ways=ways,
        summary=f"Run on packed bits it is, against its own architecture on ONNX Runtime, {'; '.join(speeds)}.",
        weights=count(told["binary_weights"]),
        bits=size(-(-told["binary_weights"] // 8)),
        agreement=percent(told["agreement"], told["images"]),
        images=told["images"],
        level=str(level),
    )
    return Markup(html)  # the template has escaped what it was given


def _faster(told: Numbers, way: str, key: str) -> list[str]:
    """Against each of AGAINST, with the interval; a way is not compared with itself."""
    found = []
    for other in AGAINST:
        ratio = told[f"ratios_to_{other}"].get(way, {}).get(key)
        found.append("–" if ratio is None else f"{times(ratio['speed_up'])} ({ratio['low']:.2f} to {ratio['high']:.2f})")
    return found


def _said(told: Numbers, other: str, key: str) -> str:
    ratio = told[f"ratios_to_{other}"]["xnor"][key]
    return f"{times(ratio['speed_up'])} the speed of {AGAINST[other]} at {batch(key)} ({pace(ratio)})"
