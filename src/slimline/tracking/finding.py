"""What an examination found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One fact, and what to do where it is a fault.

    Args:
        about: a word.
        fact: what is so.
        remedy: empty where nothing is to be done.
    """

    about: str
    fact: str
    remedy: str = ""
