"""A reverse proxy between a node and its S3 store, in which requests and answers meet every fate of a network.

The two that look alike from the node and must not be taken for each other: a request that never
arrived, and one that the store applied and whose answer was lost.

What goes wrong is diced for each request (`rate`, `kinds`), or is the same for all of them for a while
(`break_all`). `latency` is what each request takes on top.
"""
import http.client
import http.server
import random
import socket
import threading
import time

# What is drawn unless a test says otherwise; the class has all kinds.
KINDS = ["refuse", "fail", "reset", "refuse after", "fail after", "reset after", "slow"]
# What a store says that is overloaded or broken.
ANSWERS = {
    "refuse": (503, b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"),
    "fail": (500, b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"),
}
# What something between says, which knows nothing of the store.
PAGE = b"<html><head><title>Sign in</title></head><body>Sign in to use this network</body></html>"
FOREIGN = {
    "gateway": (404, "text/plain", b"default backend - 404"),
    "page": (200, "text/html", PAGE),
    "portal": (403, "text/html", PAGE),
}


class FaultyStore:
    """Stands in front of `store` (LocalStack or MinIO) at `endpoint`; `rate` of all requests go wrong.

    | kind | what becomes of a request |
    |---|---|
    | refuse, fail, reset | not applied; 503, 500, connection reset |
    | refuse after, fail after, reset after | applied; the same answers |
    | slow | applied a second later |
    | hang | lost on its way there; nobody ever answers |
    | deaf | applied; the answer is lost on its way back |
    | cut | the store gets half of the body of a PUT, the node half of the body of an answer; then both connections end |
    | twice | comes to the store twice, one right after the other; the second answer is passed on |
    | twice late | comes again `late_by` seconds after it was answered |
    | late | nobody ever answers; it comes to the store after `late_by` seconds |
    | gateway, page, portal | not applied; something between answers 404, 200 and 403 with words of its own |
    """

    def __init__(self, store, seed, rate=0.0, kinds=KINDS, latency=0.0, late_by=15.0):
        self.store, self.rate, self.dice = store, rate, random.Random(seed)
        self.kinds, self.latency, self.late_by = list(kinds), latency, late_by
        self.lock, self.done = threading.Lock(), {kind: 0 for kind in self.kinds}
        self.burst = None  # (kind, until when, which requests)
        self.under_way = []  # what comes to the store later
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def read_body(self):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def open(self, body):
                """A connection to the store on which this request has been sent, `body` of it."""
                connection = http.client.HTTPConnection("127.0.0.1", proxy.store.port, timeout=30)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)  # Host too: it is signed
                connection.endheaders(body)
                return connection

            def forward(self, body):
                connection = self.open(body)
                try:
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                finally:
                    connection.close()

            def respond(self, status, headers, body, sent=None):
                """Sends an answer; with `sent` only so many bytes of its body."""
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = dict((name.lower(), value) for name, value in headers).get("content-length")
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])

            def reset(self):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.close_connection = True
                self.connection.close()

            def swallow(self, until):
                # Nobody ever answers, and nobody says so.
                time.sleep(max(0, until - time.monotonic()) + 60)
                self.reset()

            def cut(self, body):
                if self.command in ("PUT", "POST") and body:
                    self.open(body[:len(body) // 2]).close()
                else:
                    status, headers, answer = self.forward(body)
                    self.respond(status, headers, answer, len(answer) // 2)
                    self.wfile.flush()
                self.reset()

            def later(self, body):
                def come():
                    try:
                        self.forward(body)
                    except OSError:
                        pass  # the store is gone by now

                timer = threading.Timer(proxy.late_by, come)
                timer.daemon = True
                with proxy.lock:
                    proxy.under_way.append(timer)
                timer.start()

            def handle_any(self):
                kind, until = proxy.fault(self.command, self.path)
                time.sleep(proxy.latency)
                body = self.read_body()
                what, _, after = (kind or "").partition(" ")
                if what in FOREIGN:
                    status, content_type, words = FOREIGN[what]
                    return self.respond(status, [("Content-Type", content_type), ("Server", "nginx")], words)
                if what == "hang":
                    return self.swallow(until)
                if what == "late":
                    self.later(body)
                    return self.swallow(until)
                if what == "cut":
                    return self.cut(body)
                if what == "slow":
                    time.sleep(1)
                answer = None if what in ("refuse", "fail", "reset") and not after else self.forward(body)
                if what == "deaf":
                    return self.swallow(until)
                if kind == "twice":
                    answer = self.forward(body)
                if kind == "twice late":
                    self.later(body)
                if what == "reset":
                    return self.reset()
                if what in ANSWERS:
                    status, words = ANSWERS[what]
                    return self.respond(status, [("Content-Type", "application/xml")], words)
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

    def fault(self, command, path):
        """What goes wrong with this request, or None, and until when. Counted in `done`."""
        with self.lock:
            kind, until, which = self.burst or (None, 0, None)
            if time.monotonic() >= until or which and not which(command, path):
                kind = self.dice.choice(self.kinds) if self.dice.random() < self.rate else None
            if kind:
                self.done[kind] = self.done.get(kind, 0) + 1
            return kind, until

    def break_all(self, kind, seconds, which=None):
        """For some seconds the same goes wrong with every request, or with those for which `which(method, path)`."""
        with self.lock:
            self.burst = kind, time.monotonic() + seconds, which

    def calm(self):
        """From now on nothing goes wrong any more; waits until everything that is on its way has come to the store."""
        with self.lock:
            self.burst, self.rate, late = None, 0.0, list(self.under_way)
        for timer in late:
            timer.join(self.late_by + 40)

    def bucket(self, name):
        return self.store.bucket(name)

    def stop(self):
        for timer in self.under_way:
            timer.cancel()
        self.server.shutdown()
        self.server.server_close()
