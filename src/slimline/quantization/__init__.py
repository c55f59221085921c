"""How values are put on grids.

SCHEMES    how the range of a tensor is found: `(values [channels, n], error, *, parameters…) -> (low [channels], high [channels])`, where
           `error(low, high) -> [channels]` is the mean squared error of the values on the grid over that range
LEARNING   how scales are trained after that: `(numbers, code_high, *, parameters…) -> core.grids.Learning`
CODEBOOKS  how the shared numbers of a layer are found: `(values [n], entries, *, parameters…) -> [entries], ascending`
BINARY     how weights, and inputs, become ±1: `(*, parameters…) -> core.binary.Binarization`
"""

from slimline.registry import Table

SCHEMES: Table = {
    "min_max": "slimline.quantization.min_max:min_max",
    "percentile": "slimline.quantization.percentile:percentile",
    "mse": "slimline.quantization.mse:mse",
}

LEARNING: Table = {
    "lsq": "slimline.quantization.lsq:lsq",
    "pact": "slimline.quantization.pact:pact",
}

CODEBOOKS: Table = {
    "k_means": "slimline.quantization.k_means:k_means",
}

BINARY: Table = {
    "binary_connect": "slimline.quantization.binary_connect:binary_connect",
    "binarized": "slimline.quantization.binarized:binarized",
    "xnor": "slimline.quantization.xnor:xnor",
}
