"""What parsers do with a file that was damaged, or made to harm."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slimline.data.sources.files import printable
from slimline.errors import SlimlineError


@contextmanager
def damage_told(place: Path, kind: str) -> Iterator[None]:
    """Turn whatever is raised while `place` is parsed into a refusal: on such files parsers raise nearly anything.

    Raises:
        SlimlineError: `place` is no readable file of that kind.
    """
    try:
        yield
    except SlimlineError:
        raise
    except Exception as error:
        reason = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        raise SlimlineError(f"{place}: no readable {kind} ({reason}); it is damaged or another kind of file, get it anew") from error
