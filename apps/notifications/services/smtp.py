"""One conversation with a mail server, told apart by the one question that matters: can the mail have been taken?

A mail is taken once the server has read the line with the single dot. Whatever fails before that is sent did not happen
and may be repeated; when the answer to it is lost, nobody can know, and the mail is not repeated.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from types import TracebackType
from typing import Any, Self

from apps.notifications.models import MailSettings
from apps.organizations import crypto
from apps.organizations.outgoing import AddressRefused, Target, resolve

CONNECT_SECONDS = 15.0
# How long the answer to a whole mail may take; servers scan it meanwhile.
ANSWER_SECONDS = 90.0


class ServerTrouble(Exception):
    """The server cannot be used now, whatever the mail: no connection, no sign-in. Nothing was taken."""


class Deferred(Exception):
    """The server does not take this mail now, and says to come again."""


class Refused(Exception):
    """The server refuses this mail for good."""


class AnswerLost(Exception):
    """The whole mail was handed over and no answer came: it may have been taken, or not."""


class _Smtp(smtplib.SMTP):
    """smtplib, connected to exactly the address that was judged; certificates are those of the name."""

    def __init__(self, target: Target, context: ssl.SSLContext | None) -> None:
        self._target, self._tls = target, context
        super().__init__(timeout=CONNECT_SECONDS, local_hostname="aum.invalid")
        self._host = target.host
        code, answer = self.connect(target.host, target.port)
        if code != 220:
            self.close()
            raise smtplib.SMTPConnectError(code, answer)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((self._target.ip, port), timeout)
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._target.host)
        except Exception:
            plain.close()
            raise


class MailSession:
    """A connection that several mails share. Use as a context manager; `open` raises ServerTrouble."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._smtp: _Smtp | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and sign in, unless that is done already."""
        if self._smtp is not None:
            return
        settings = self._settings
        if not settings.is_ready:
            raise ServerTrouble("No mail server is set. Enter it under Settings, Mail.")
        try:
            target = resolve(settings.host, settings.port)
            is_tls = settings.security == MailSettings.Security.TLS
            smtp = _Smtp(target, ssl.create_default_context() if is_tls else None)
        except AddressRefused as error:
            raise ServerTrouble(error.detail) from error
        except (OSError, smtplib.SMTPException) as error:
            raise ServerTrouble(f"{settings.host} cannot be reached: {_words(error)}") from error
        try:
            smtp.ehlo_or_helo_if_needed()
            if settings.security == MailSettings.Security.STARTTLS:
                smtp.starttls(context=ssl.create_default_context())
                smtp.ehlo()
            if settings.username:
                password = crypto.decrypt(bytes(settings.encrypted_password)) if settings.encrypted_password else ""
                smtp.login(settings.username, password)
        except smtplib.SMTPAuthenticationError as error:
            smtp.close()
            raise ServerTrouble(f"The mail server does not accept user name and password: {_words(error)}") from error
        except (OSError, smtplib.SMTPException) as error:
            smtp.close()
            raise ServerTrouble(f"The mail server does not let AUM in: {_words(error)}") from error
        self._smtp = smtp

    def hand_over(self, message: EmailMessage, recipient: str, *, before_data: Callable[[], None]) -> str:
        """Give one mail to the server and return its answer. `before_data` runs once the recipient was accepted.

        Raises ServerTrouble, Deferred, Refused or AnswerLost.
        """
        self.open()
        smtp = self._smtp
        assert smtp is not None
        assert smtp.sock is not None
        sender = self._settings.from_address
        # A line that is a single dot would end the mail: leading dots are doubled (RFC 5321, 4.5.2).
        wire = re.sub(rb"(?m)^\.", b"..", message.as_bytes(policy=SMTP))
        if not wire.endswith(b"\r\n"):
            wire += b"\r\n"
        try:
            code, answer = smtp.mail(sender)
            if code == 250:
                code, answer = smtp.rcpt(recipient)
            if code not in (250, 251):
                self._reset()
                raise _refusal(code, answer)
            before_data()
            code, answer = smtp.docmd("data")
            if code != 354:
                self._reset()
                raise _refusal(code, answer)
            # All or nothing: when this raises, the last bytes, the dot among them, were not handed to the system.
            smtp.send(wire + b".\r\n")
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise ServerTrouble(f"The connection to the mail server broke: {_words(error)}") from error
        try:
            smtp.sock.settimeout(ANSWER_SECONDS)
            code, answer = smtp.getreply()
            smtp.sock.settimeout(CONNECT_SECONDS)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise AnswerLost(f"The connection broke before the mail server answered: {_words(error)}") from error
        if code != 250:
            raise _refusal(code, answer)
        return _text(answer)

    def _reset(self) -> None:
        assert self._smtp is not None
        try:
            self._smtp.rset()
        except (OSError, smtplib.SMTPException):
            self.close()

    def close(self) -> None:
        """End the connection; it can be opened again."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        with contextlib.suppress(OSError, smtplib.SMTPException):
            if smtp.sock is not None:
                smtp.sock.settimeout(2)
            smtp.quit()
        smtp.close()


def _refusal(code: int, answer: Any) -> Exception:
    said = f"{code} {_text(answer)}"
    if code == 421 or code < 0:
        return ServerTrouble(f"The mail server closes the connection: {said}")
    if code in (530, 535, 538):
        return ServerTrouble(f"The mail server wants a sign-in: {said}")
    return Refused(said) if 500 <= code < 600 else Deferred(said)


def _text(answer: Any) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:400]


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})."
    if isinstance(error, TimeoutError):
        return "no answer in time."
    return _text(str(error) or type(error).__name__)
