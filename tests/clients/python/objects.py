"""An object store with the API of S3 (moto) that fails one call in twenty: half of those before doing what was asked, half after.

Prints its port. `GET /failures` tells how many calls failed so far."""

import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Flaky:
    def __init__(self, app):
        self.app, self.calls, self.failures = app, 0, 0
        self.lock = threading.Lock()

    def fails(self):
        """A fixed sequence that looks like none; answers `before` or `after` where a call fails."""
        with self.lock:
            self.calls += 1
            mixed = (self.calls * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 40
            if mixed % 20:
                return None
            self.failures += 1
            return ("before", "after")[self.failures % 2]

    def __call__(self, environ, start):
        if environ["PATH_INFO"] == "/failures":
            return answer(start, "200 OK", str(self.failures))
        # The bucket itself is made without trouble.
        fails = self.fails() if environ["PATH_INFO"].count("/") > 1 else None
        if fails == "after":
            for _ in self.app(environ, lambda *_: None):
                pass
        if fails:
            return answer(start, "500 Internal Server Error", "one in twenty")
        return self.app(environ, start)


def answer(start, status, text):
    start(status, [("Content-Length", str(len(text)))])
    return [text.encode()]


class Quiet(WSGIRequestHandler):
    # Connections are kept, as real stores keep them.
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


server = make_server(
    "127.0.0.1", 0, Flaky(DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=Quiet
)
print(server.port, flush=True)
server.serve_forever()
