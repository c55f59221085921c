"""Where images come from: sources `(root, *, path, parameters…) -> iterator of Item`, one line each."""

from slimline.registry import Table

SOURCES: Table = {
    "arrays": "slimline.data.sources.arrays:arrays",
    "digits": "slimline.data.sources.digits:digits",
    "huggingface": "slimline.data.sources.huggingface:huggingface",
    "idx": "slimline.data.sources.idx:idx",
    "images": "slimline.data.sources.images:images",
    "manifest": "slimline.data.sources.manifest:manifest",
    "parquet": "slimline.data.sources.parquet:parquet",
}
