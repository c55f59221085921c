"""Where images come from: sources `(root, *, path, parameters…) -> iterator of Picture`, one line each."""

from slimline.registry import Table

SOURCES: Table = {
    "digits": "slimline.data.sources.digits:digits",
    "images": "slimline.data.sources.images:images",
}
