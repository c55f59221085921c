"""A webhook: an address that takes JSON by POST."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from slimline.errors import SlimlineError

PATIENCE = 10.0
"""Seconds to connect, and between two bytes."""


class Webhook:
    """The receiver at `url`. It is sent `text`, which chat programs show, the whole `summary`, and an `id` by which a repeat is known."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise SlimlineError("SLIMLINE_WEBHOOK_URL: no address of a webhook; it begins with https:// or http:// and names a host") from None
        self.url, self.host = url, host

    def send(self, notice: Mapping[str, Any]) -> None:
        import requests  # a tenth of a second

        try:
            # What it answers beside its code is not read: it could be without end.
            with requests.post(self.url, json=dict(notice), timeout=PATIENCE, allow_redirects=False, stream=True) as answer:
                pass
        except (requests.RequestException, ValueError) as error:  # its words repeat the address, which is a secret
            raise SlimlineError(f"the webhook at {self.host} does not answer ({type(error).__name__})") from error
        if not answer.ok or answer.is_redirect:
            raise SlimlineError(f"the webhook at {self.host} answers {answer.status_code}")
