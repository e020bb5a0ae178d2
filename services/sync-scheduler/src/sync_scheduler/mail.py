"""One attempt to send an e-mail over SMTP: plain text, one recipient, nothing from a roster."""

from __future__ import annotations

import asyncio
import re
import smtplib
import ssl
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal

from homeroom.webhooks import NotDelivered

SMTP_SECONDS = 10.0
"""For each answer of the mail server."""
_WHOLE_SECONDS = 40.0
_TURN_SECONDS = 30.0
"""For one of the threads to be free."""
_THREADS = 4
_PERMANENT = 500
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")


def check_address(text: str) -> str:
    """An e-mail address that can't be anything else, as a header. Raises ValueError."""
    if not _ADDRESS.fullmatch(text):
        raise ValueError("this is no e-mail address; it is written like ann@example.org")
    return text


@dataclass(frozen=True, slots=True)
class Mail:
    """Sends e-mails in threads of its own, so that a slow mail server holds up nothing else."""

    host: str
    port: int
    sender: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, "mail"), repr=False, compare=False
    )
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_THREADS), repr=False, compare=False)

    async def send(self, address: str, subject: str, text: str, *, message_id: str, now: datetime) -> None:
        """Send once; the same `message_id` for every attempt, so that mailboxes know it again. Raises NotDelivered."""
        if not self.host:
            raise NotDelivered("No mail server is set up (HOMEROOM_SMTP_HOST).")
        message = EmailMessage(policy=SMTP)
        message["From"] = self.sender
        message["To"] = check_address(address)
        message["Subject"] = subject
        message["Date"] = format_datetime(now)
        message["Message-ID"] = f"<{message_id}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text, cte="quoted-printable")
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise NotDelivered("Too many mails wait for the mail server.") from None
        try:
            async with asyncio.timeout(_WHOLE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._deliver, message)
        except TimeoutError:
            raise NotDelivered("The mail server did not answer in time.") from None
        finally:
            self._turns.release()

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[Mail]:
        """At the end what has not begun is given up."""
        try:
            yield self
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _deliver(self, message: EmailMessage) -> None:
        # What the server says may repeat the address, so only its number is told.
        try:
            with self._connect() as server:
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            number = next(iter(error.recipients.values()))[0]
            why = f"The mail server refused the address ({number})."
            raise NotDelivered(why, for_good=number >= _PERMANENT) from None
        except smtplib.SMTPResponseException as error:
            raise NotDelivered(f"The mail server refused the message ({error.smtp_code}).") from None
        except (smtplib.SMTPException, ssl.SSLError, OSError) as error:
            raise NotDelivered(f"The mail server could not be used ({type(error).__name__}).") from None

    @contextmanager
    def _connect(self) -> Iterator[smtplib.SMTP]:
        if self.tls == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=SMTP_SECONDS, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=SMTP_SECONDS)
        with server:
            if self.tls == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self.username:
                server.login(self.username, self.password)
            yield server
