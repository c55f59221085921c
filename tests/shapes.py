"""The type checker behind jaxtyping's import hook in tests: beartype, which lets the proxies of torch.fx pass.

A network is traced by calling its `forward` with a proxy in the place of the images; a proxy has no shape to check.
"""

import functools
from collections.abc import Callable
from typing import Any

from beartype import beartype
from torch import fx


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its annotations checked at every call that is none of a trace."""
    strict = beartype(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        traced = any(isinstance(value, fx.Proxy) for value in (*args, *kwargs.values()))
        return (function if traced else strict)(*args, **kwargs)

    return call
