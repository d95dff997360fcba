"""An OpenAI-compatible server on this machine that does what a test tells it to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Act:
    """How one request is answered. stall: seconds before; hang_up: close without a word."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0.0
    hang_up: bool = False


def says(text: str) -> Act:
    """A whole chat completion of 10 + 2 tokens."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    return Act(body=json.dumps({"choices": [{"message": message}], "usage": usage}))


@dataclass
class Script:
    """What has been asked, and what was answered whole: the last user message of each request."""

    answer: Callable[[dict[str, Any], int], Act]
    asked: list[str] = field(default_factory=list)
    paid: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        script = self.script
        with script.lock:
            script.times.append(time.monotonic())
            script.authorizations.append(self.headers.get("Authorization"))
            script.bodies.append(body)
            script.asked.append(text)
            act = script.answer(body, len(script.asked))
        time.sleep(act.stall)
        if act.hang_up:
            self.close_connection = True
            return
        content = act.body.encode()
        try:
            self.send_response(act.status)
            for name, value in act.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has given up
            return
        if act.status == 200 and '"message"' in act.body and not act.stall:
            with script.lock:
                script.paid.append(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def scripted_server(answer: Callable[[dict[str, Any], int], Act]) -> Iterator[Script]:
    """Serve `answer(body, number of the request)`; the script tells what came."""
    script = Script(answer)
    handler = type("Handler", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
