"""Telling people and programs of a tick.

What cannot be sent is kept, and sent by a later tick; so a receiver may hear of one twice, with the same `id`, but never not at all.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from slimline.errors import SlimlineError
from slimline.files import write_json

KEYS = {"id", "headline", "text", "summary"}
"""Of what a channel is handed."""

MOST = 1000
"""Notices that wait for one receiver; then the oldest go."""


class Channel(Protocol):
    """A way to tell somebody. Its `name` is that of its notices' files."""

    name: str

    def send(self, notice: Mapping[str, Any]) -> None:
        """Deliver `notice`.

        Raises:
            SlimlineError: it was not taken, in words that give no secret away.
        """


def notice(identity: str, summary: Mapping[str, Any], headline: str, text: str) -> dict[str, Any]:
    """What a channel is handed."""
    return {"id": identity, "headline": headline, "text": text, "summary": dict(summary)}


def keep(box: Path, channels: list[Channel], told: Mapping[str, Any]) -> None:
    """Put the notice `told` for each channel into the folder `box`.

    Raises:
        OSError: no room, no permission.
    """
    for channel in channels:
        write_json(box / f"{time.time_ns():020}-{channel.name}.json", told)
        for old in _waiting(box, channel)[:-MOST]:
            old.unlink()


def send(channels: list[Channel], told: Mapping[str, Any]) -> Iterator[str]:
    """Send `told`, which cannot be kept; of each channel that does not take it, why, in words."""
    for channel in channels:
        try:
            channel.send(told)
        except SlimlineError as error:
            yield str(error)


def deliver(box: Path, channels: list[Channel]) -> Iterator[str]:
    """Send what lies in `box`, the oldest first; of each channel that does not take it, why, in words. Its notices stay."""
    for channel in channels:
        waiting = _waiting(box, channel)
        for place, file in enumerate(waiting):
            try:
                note = json.loads(file.read_text(encoding="utf-8"))
                if not isinstance(note, dict) or not note.keys() >= KEYS:
                    raise ValueError("of another version")
            except ValueError:  # it must not stop those behind it
                file.rename(file.with_name(f"unreadable-{file.name}"))
                yield f"{file}: no notice can be read there; it is put aside"
                continue
            try:
                channel.send(note)
            except SlimlineError as error:
                left = len(waiting) - place
                yield f"{error}; {left} notice{'s' if left > 1 else ''} kept for the next tick"
                break
            file.unlink()


def _waiting(box: Path, channel: Channel) -> list[Path]:
    return sorted(box.glob(f"[0-9]*-{channel.name}.json"))
