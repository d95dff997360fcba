"""People as judge: a page on this machine with two answers side by side, blind, by keyboard.

In: questions, a journal. Out: judgements; each is on the disk when the next page shows, so the
work can stop at any time. Which answer stands left and in which order prompts come is drawn from a
seed and the content. The page is reached from this machine only, by an address nobody can guess.
"""

import secrets
import sys
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from thumbs.errors import ConfigError, Interrupted
from thumbs.evaluate.journal import Journal, content_key
from thumbs.evaluate.judging import Judgement, Question, Verdict, text_of
from thumbs.progress import console
from thumbs.stopping import stopping_after

HOST = "127.0.0.1"
SKIPPED = "skipped by the rater"
LARGEST_FORM = 10_000  # bytes
LOOK_SECONDS = 0.2  # between two looks whether the user asked to stop


def announce(url: str) -> None:
    """Tell where the page is."""
    keys = "keys: 1 or 2 for the better one, 0 equal, s cannot say, u undo; Ctrl-C to go on later"
    console.print(f"judge at {url}\n{keys}", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class HumanJudge:
    """journal: where verdicts are kept. announce: is told the page's address."""

    journal: Journal
    seed: int
    port: int = 0  # 0: any that is free
    announce: Callable[[str], None] = announce
    name: str = field(default="human", init=False)
    sees_order: bool = field(default=False, init=False)  # each pair is asked once, sides drawn

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        """Serve the page until every question has a verdict.

        Raises:
            Interrupted: the user stopped before the last; what is judged is kept.
        """
        keys = [content_key("human", q.prompt, q.first, q.second) for q in questions]
        deck = _Deck(dict(zip(keys, questions, strict=True)), self.journal, self.seed)
        if deck.next_key() is not None:
            self._serve(deck)
        return [Judgement(**(self.journal.get(key) or {})) for key in keys]

    def _serve(self, deck: "_Deck") -> None:
        try:
            server = _PageServer((HOST, self.port), deck)
        except OSError as error:
            raise ConfigError(
                f"--port {self.port}: cannot be served ({error.strerror}). Name another, or 0 for "
                "any that is free."
            ) from None
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            with stopping_after("this answer") as stop:
                self.announce(server.url)
                while not deck.finished.wait(LOOK_SECONDS):
                    if stop.came:
                        raise Interrupted(
                            f"{deck.num_done()} of {len(deck.questions)} are judged and kept. "
                            "Give the same command to go on."
                        )
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Deck:
    """The questions of a session, in their drawn order, and which are done."""

    def __init__(self, questions: dict[str, Question], journal: Journal, seed: int) -> None:
        self.questions = questions
        self.finished = threading.Event()
        self._journal, self._seed = journal, seed
        self._order = sorted(questions, key=lambda key: content_key(seed, "order", key))
        self._judged_now: list[str] = []
        self._lock = threading.Lock()

    def next_key(self) -> str | None:
        return next((key for key in self._order if self._journal.get(key) is None), None)

    def num_done(self) -> int:
        return sum(self._journal.get(key) is not None for key in self.questions)

    def is_turned(self, key: str) -> bool:
        """Whether the question's first answer stands on the right."""
        return int(content_key(self._seed, "side", key)[:2], 16) % 2 == 1

    def take(self, key: str, choice: str) -> None:
        """Keep a choice; one for a question that is done, or unknown, changes nothing."""
        with self._lock:
            if choice == "undo":
                if self._judged_now:
                    self._journal.withdraw(self._judged_now.pop())
                return
            self._journal.refresh()  # another process may have asked meanwhile
            if key not in self.questions or self._journal.get(key) is not None:
                return
            if choice not in ("left", "right", "tie", "skip"):
                return
            self._journal.add(key, asdict(self._judgement(key, choice)))
            self._judged_now.append(key)

    def _judgement(self, key: str, choice: str) -> Judgement:
        if choice == "skip":
            return Judgement(None, SKIPPED)
        if choice == "tie":
            return Judgement("tie")
        verdict: Verdict = "first" if (choice == "left") != self.is_turned(key) else "second"
        return Judgement(verdict)

    def page(self) -> dict[str, Any]:
        """What the template shows."""
        key = self.next_key()
        shown: dict[str, Any] = {"done": self.num_done(), "total": len(self.questions)}
        if key is None:
            return {**shown, "finished": True}
        question = self.questions[key]
        sides = [question.first, question.second]
        if self.is_turned(key):
            sides.reverse()
        return {
            **shown,
            "finished": False,
            "key": key,
            "prompt": text_of(question.prompt),
            "left": sides[0] or "(an empty answer)",
            "right": sides[1] or "(an empty answer)",
            "can_undo": bool(self._judged_now),
        }


class _PageServer(ThreadingHTTPServer):
    """Serves one deck under a secret path."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], deck: _Deck) -> None:
        super().__init__(address, _Handler)
        self.deck = deck
        self.path = f"/{secrets.token_urlsafe(16)}/"
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.url = f"http://{HOST}:{self.server_port}{self.path}"
        source = files("thumbs.evaluate").joinpath("templates", "side_by_side.html.jinja")
        environment = Environment(autoescape=True, trim_blocks=True)
        self.template = environment.from_string(source.read_text(encoding="utf-8"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no error of ours; others are shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """GET shows the next question, POST takes a verdict; both only under the secret path."""

    server: _PageServer
    timeout = 30  # seconds a connection may be silent

    def do_GET(self) -> None:
        if not self._is_welcome(self.server.path):
            return
        nonce = secrets.token_urlsafe(12)
        shown = self.server.deck.page()
        body = self.server.template.render(nonce=nonce, **shown).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        closed = "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        self.send_header("Content-Security-Policy", f"{policy}; {closed}")
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if shown["finished"]:
            self.server.deck.finished.set()

    def do_POST(self) -> None:
        if not self._is_welcome(self.server.path + "verdict"):
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST_FORM:
            self.send_error(413)
            return
        form = urllib.parse.parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        self.server.deck.take(form.get("key", [""])[0], form.get("verdict", [""])[0])
        self.send_response(303)
        self.send_header("Location", self.server.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_welcome(self, path: str) -> bool:
        """Whether the request names this machine and the secret path; others get an error."""
        if self.headers.get("Host") not in self.server.hosts:  # a foreign page, by DNS rebinding
            self.send_error(403)
            return False
        if not secrets.compare_digest(self.path.encode(), path.encode()):
            self.send_error(404)
            return False
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the user."""
