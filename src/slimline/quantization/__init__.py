"""How the range of a tensor is found: schemes `(values [channels, n], *, parameters…) -> (low [channels], high [channels])`."""

from slimline.registry import Table

SCHEMES: Table = {
    "min_max": "slimline.quantization.min_max:min_max",
    "percentile": "slimline.quantization.percentile:percentile",
}
