"""What a sweep expected of the model to ship, beside what came of it."""

from collections.abc import Mapping
from typing import Any

from slimline.params.evaluate import Promise


def outcome(promise: Promise, card: Mapping[str, Any]) -> dict[str, Any]:
    """
    Args:
        card: of the scorecard, that of the model to ship.

    Returns:
        `promised` and `obtained` accuracy of the test images, bytes and bit operations; `accuracy`: whether what was obtained lies
        `within` what was promised, `below` or `above`; `same`: whether it is the model that the promise is of, as far as its bit operations
        tell, which do not depend on training where layers and zeros do not.
    """
    low, high = promise.accuracy
    return {
        "sweep": promise.sweep,
        "trial": promise.trial,
        "promised": {"accuracy": [low, high], "packed_bytes": promise.packed_bytes, "bops": promise.bops},
        "obtained": {name: card[name] for name in ("accuracy", "packed_bytes", "bops")},
        "accuracy": "below" if card["accuracy"] < low else "above" if card["accuracy"] > high else "within",
        "same": card["bops"] == promise.bops,
    }
