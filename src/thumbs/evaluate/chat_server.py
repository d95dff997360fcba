"""One OpenAI-compatible server: messages go out, one reply comes back, whatever happens between.

In: a URL, a model's name, messages. Out: a `Reply` with its tokens. Stalls, refusals to serve now,
broken connections and replies that are none are tried again with a growing pause, or the one that
the server asks for. The key comes from the environment, goes into one header and nowhere else.
"""

import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
import orjson

from thumbs.errors import ConfigError, Interrupted, shown
from thumbs.feedback.record import Message
from thumbs.progress import console
from thumbs.visible import visible

Role = Literal["a", "b", "judge"]  # whom the server speaks for

TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
REFUSES_THIS = {400, 413, 422}  # this request, for what it holds
OPENAI = "api.openai.com"
LONGEST_PAUSE_SECONDS = 30.0  # of our own; a server may ask for more
LONGEST_ASKED_SECONDS = 600.0
LARGEST_REPLY = 8_000_000  # bytes
MOST_TOKENS = 2**53  # of a reply; a larger count is no count


@dataclass(frozen=True)
class Reply:
    """What the model said; tokens as the server counts them, 0 where that is no number.

    refusal: why the server would not take this request, "" where it did.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusal: str = ""


@dataclass(frozen=True)
class Patience:
    """How long to wait: seconds of one attempt, attempts, seconds of the first pause."""

    timeout_seconds: float = 120.0
    attempts: int = 6
    pause_seconds: float = 0.5


class Unusable(Exception):
    """An attempt that brought no reply; after: seconds the server asks to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


@dataclass
class ChatServer:
    """Owns the connections. `reply` may be called from several threads.

    options: further keys of every request. stop: set when waiting has become pointless.
    """

    url: str
    model: str
    role: Role
    patience: Patience = field(default_factory=Patience)
    options: Mapping[str, Any] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    retries: int = 0
    counts_unread: bool = False  # whether a count of tokens was none, which is told once

    def __post_init__(self) -> None:
        self.endpoint = chat_endpoint(self.url)
        self._key = _key_for(self.role, self.endpoint)
        self._telling = threading.Lock()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx2.Client(
            headers=headers, timeout=self.patience.timeout_seconds, follow_redirects=False
        )

    def close(self) -> None:
        self._client.close()

    def reply(self, messages: Sequence[Message], **settings: Any) -> Reply:
        """What the model answers; settings: temperature, max_tokens, ... of the request.

        Raises:
            Interrupted: no attempt brought a reply; the work can be resumed.
            ConfigError: the server refuses every request alike (no such model, no right).
        """
        chosen = {**settings, **self.options}
        body = {"model": self.model, "messages": list(messages), "stream": False, **chosen}
        content = orjson.dumps({k: v for k, v in body.items() if v is not None})
        why = ""
        for attempt in range(self.patience.attempts):
            if self.stop.is_set():
                raise Interrupted("stopped")
            try:
                return self._attempt(content)
            except Unusable as error:
                why = str(error)
                if attempt + 1 < self.patience.attempts:
                    self.retries += 1
                    self.stop.wait(self._pause(attempt, error.after))
        raise Interrupted(
            f"{self.endpoint}: no reply in {self.patience.attempts} attempts: {why}. What has come "
            "is kept; once the server is well, give the same command again to go on."
        )

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Seconds: what the server asks for, else twice the last, less up to half by chance."""
        if asked is not None:
            return asked
        longest = min(self.patience.pause_seconds * 2.0**attempt, LONGEST_PAUSE_SECONDS)
        return longest * random.uniform(0.5, 1.0)

    def _attempt(self, content: bytes) -> Reply:
        try:
            status, headers, raw = self._send(content)
        except httpx2.HTTPError as error:
            raise Unusable(self._told(f"{type(error).__name__} {error}".strip())) from None
        text = raw.decode(errors="replace")
        if status in TRY_AGAIN:
            asked = asked_pause(headers.get("Retry-After"), time.time())
            raise Unusable(self._told(f"status {status} {text}"), asked)
        if status in REFUSES_THIS:
            return Reply("", refusal=self._told(f"status {status} {text}"))
        if status != 200:
            raise ConfigError(
                f"{self.endpoint}: answers with status {status}: {self._told(text)}. Check the "
                f"URL, the model {self.model!r} and the key ({', '.join(key_names(self.role))})."
            )
        return self._parsed(raw)

    def _send(self, content: bytes) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body; the timeout is for the whole attempt, drip by drip too."""
        ends = time.monotonic() + self.patience.timeout_seconds
        kind = {"Content-Type": "application/json"}
        with self._client.stream("POST", self.endpoint, content=content, headers=kind) as found:
            raw = b""
            for piece in found.iter_bytes():
                raw += piece
                if time.monotonic() > ends:
                    raise Unusable(f"no whole reply in {self.patience.timeout_seconds:g} s")
                if len(raw) > LARGEST_REPLY:
                    raise Unusable(f"a reply of more than {LARGEST_REPLY:,} bytes")
            return found.status_code, found.headers, raw

    def _parsed(self, raw: bytes) -> Reply:
        """What was paid for is kept: a reply with a text counts, whatever else is odd about it."""
        try:
            # Unlike orjson, json reads NaN and halves of a surrogate pair, which servers send.
            found = json.loads(raw.decode(errors="replace"))
            text = _text_of_content(found["choices"][0]["message"]["content"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            start = self._told(raw[:200].decode(errors="replace"))
            raise Unusable(f"status 200, but no chat completion: {start!r}") from None
        if text is None:
            raise Unusable("status 200, but a chat completion without text")
        prompt, reply = self._tokens(found.get("usage"))
        return Reply(self._without_key(text), prompt, reply)

    def _tokens(self, usage: object) -> tuple[int, int]:
        """Of the prompt and of the reply; 0 for what is no number of tokens, told once."""
        given = {} if usage is None else usage
        found = given if isinstance(given, dict) else {}
        counts = [_count(found.get(key, 0)) for key in ("prompt_tokens", "completion_tokens")]
        if found is not given or None in counts:
            with self._telling:
                if not self.counts_unread:
                    console.print(
                        f"{self.endpoint}: its usage {self._told(shown(usage))} is no count of "
                        "tokens; such replies are counted as 0 tokens, also in the cost",
                        markup=False,
                    )
                self.counts_unread = True
        prompt, reply = (count or 0 for count in counts)
        return prompt, reply

    def _told(self, text: str) -> str:
        """A server's words for an error line: short, one line, without the key."""
        return visible(" ".join(self._without_key(text).split())[:300])

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def chat_endpoint(url: str) -> str:
    """Where chat completions are asked for: URL/chat/completions; a bare host gets /v1 first.

    Raises:
        ConfigError: no URL of http or https, or one that holds a password or a query.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"{url!r:.100}: is no URL ({error}); give http://HOST:PORT/v1") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url!r:.100}: is no URL of a server; give http://HOST:PORT/v1")
    if parsed.userinfo or parsed.query or parsed.fragment:
        bare = parsed.copy_with(userinfo=b"", query=None, fragment=None)
        raise ConfigError(
            f"{bare}: was given with a password, a query or a fragment, which would be written to "
            "files; put the key into the environment (THUMBS_API_KEY) and give the bare URL"
        )
    path = parsed.path.rstrip("/") or "/v1"
    if not path.endswith("/chat/completions"):
        path += "/chat/completions"
    return str(parsed.copy_with(path=path))


def _text_of_content(content: object) -> str | None:
    """The text of a message, whole or in parts, "" where it says nothing; None: it is neither.

    Half a surrogate pair, which no file can hold, becomes U+FFFD.
    """
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = (part.get("text") for part in content if part.get("type", "text") == "text")
        content = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str | None):
        return None
    return (content or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(found: object) -> int | None:
    """A number of tokens, also where it is written as 10.0; null is 0; None: it is no number."""
    if found is None:
        return 0
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return int(found) if 0 <= found <= MOST_TOKENS and found == int(found) else None


def key_names(role: Role) -> list[str]:
    """Variables of the environment that may hold the key, the first found is taken."""
    return [f"THUMBS_{role.upper()}_API_KEY", "THUMBS_API_KEY"]


def _key_for(role: Role, endpoint: str) -> str:
    """The key; OPENAI_API_KEY goes to OpenAI alone, whatever server was named."""
    url = httpx2.URL(endpoint)
    at_openai = url.host == OPENAI and url.scheme == "https"
    names = [*key_names(role), *(["OPENAI_API_KEY"] if at_openai else [])]
    key = next((found for name in names if (found := os.environ.get(name, "").strip())), "")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{names[0]}: the key holds characters that no header can; copy it again")
    return key


def asked_pause(text: str | None, now: float) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None where it says nothing.

    Raises:
        Interrupted: the server asks for more than ten minutes.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except ValueError:
            return None
    if not seconds <= LONGEST_ASKED_SECONDS:
        raise Interrupted(
            f"the server asks to wait {seconds:,.0f} s. What has come is kept; give the same "
            "command again then."
        )
    return max(seconds, 0.0)
