"""A reverse proxy between a node and its S3 store, which loses requests and answers.

The two that look alike from the node and must not be taken for each other: a request that never
arrived, and one that the store applied and whose answer was lost.

What goes wrong is diced for each request (`rate`), or is the same for all of them for a while (`break_all`).
"""
import http.client
import http.server
import random
import socket
import threading
import time

KINDS = ["refuse", "fail", "reset", "refuse after", "fail after", "reset after", "slow"]
ANSWERS = {
    "refuse": (503, b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"),
    "fail": (500, b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"),
}


class FaultyStore:
    """Stands in front of `store` (LocalStack or MinIO) at `endpoint`; `rate` of all requests go wrong."""

    def __init__(self, store, seed, rate=0.0):
        self.store, self.rate, self.dice = store, rate, random.Random(seed)
        self.lock, self.done = threading.Lock(), {kind: 0 for kind in KINDS}
        self.burst = None  # (kind, until when)
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                connection = http.client.HTTPConnection("127.0.0.1", proxy.store.port, timeout=30)
                try:
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        connection.putheader(name, value)  # Host too: it is signed
                    connection.endheaders(body)
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                finally:
                    connection.close()

            def respond(self, status, headers, body):
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = dict((name.lower(), value) for name, value in headers).get("content-length")
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def answer_with(self, kind):
                status, body = ANSWERS[kind]
                self.respond(status, [("Content-Type", "application/xml")], body)

            def reset(self):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.close_connection = True
                self.connection.close()

            def handle_any(self):
                kind, until = proxy.fault()
                what, _, after = (kind or "").partition(" ")
                if what == "hang":
                    # Swallowed: nobody ever answers, and nobody says so.
                    time.sleep(max(0, until - time.monotonic()) + 60)
                    return self.reset()
                if what == "slow":
                    time.sleep(1)
                answer = None if what in ("refuse", "fail", "reset") and not after else self.forward()
                if what == "reset":
                    return self.reset()
                if what in ANSWERS:
                    if not after:
                        self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    return self.answer_with(what)
                return self.respond(*answer)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a connection that this proxy or the node gave up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.env = {**store.env, "AWS_ENDPOINT_URL": self.endpoint}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fault(self):
        """What goes wrong with this request, or None, and until when. Counted in `done`."""
        with self.lock:
            kind, until = self.burst or (None, 0)
            if time.monotonic() >= until:
                kind = self.dice.choice(KINDS) if self.dice.random() < self.rate else None
            if kind:
                self.done[kind] = self.done.get(kind, 0) + 1
            return kind, until

    def break_all(self, kind, seconds):
        """For some seconds the same goes wrong with every request: one of KINDS, or "hang"."""
        with self.lock:
            self.burst = kind, time.monotonic() + seconds

    def bucket(self, name):
        return self.store.bucket(name)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
