"""E-mail, by SMTP."""

import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from slimline.errors import SlimlineError
from slimline.rerun.settings import PASSWORD, Mail, secret

PATIENCE = 20.0
"""Seconds that a server has for an answer."""


class Mailbox:
    """The receivers of `settings`. A repeat has the same Message-ID."""

    name = "mail"

    def __init__(self, settings: Mail) -> None:
        self.settings = settings
        self.password = secret(PASSWORD)
        if settings.user is not None and self.password is None:
            raise SlimlineError(f"rerun.yaml: notify.mail.user: no password for it; set {PASSWORD} or {PASSWORD}_FILE")

    def send(self, notice: Mapping[str, Any]) -> None:
        message = EmailMessage()
        message["Subject"] = notice["headline"][:200]
        message["From"], message["To"] = self.settings.sender, ", ".join(self.settings.to)
        message["Date"], message["Message-ID"] = formatdate(localtime=True), f"<{notice['id']}@slimline>"
        message.set_content(notice["text"])
        try:
            with self._connected() as server:
                server.send_message(message)
        except (OSError, smtplib.SMTPException, ValueError) as error:  # ValueError: letters that no mail address or password can have
            raise SlimlineError(f"the mail server {self.settings.host} does not take it ({type(error).__name__}: {error})") from error

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        at, safe = (self.settings.host, self.settings.port), ssl.create_default_context()
        tls = self.settings.security == "tls"
        with smtplib.SMTP_SSL(*at, timeout=PATIENCE, context=safe) if tls else smtplib.SMTP(*at, timeout=PATIENCE) as server:
            if self.settings.security == "starttls":
                server.starttls(context=safe)
            if self.settings.user is not None:
                server.login(self.settings.user, self.password or "")
            yield server
