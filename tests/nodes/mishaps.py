"""A way to magnumd's discovery on which things go wrong, differently for each member."""
import http.client
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WATCH = 120  # seconds; longer than magnumd keeps a watch waiting


class Mishap:
    """What happens to the requests of one member; it tells how often it did."""

    def __init__(self, method="", delay=0, status=None, times=None):
        self.method, self.delay, self.status, self.times = method, delay, status, times
        self.count = 0

    def strikes(self, method, is_watch):
        if is_watch or not method.startswith(self.method) or self.count == self.times:
            return False
        self.count += 1
        return True


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def perform(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mishap = self.server.mishaps.get(self.client_address[0])
        is_watch = "wait=true" in self.path
        strikes = mishap is not None and mishap.strikes(self.command, is_watch)
        if strikes and mishap.status:
            return self.answer(mishap.status, {"Content-Type": "text/plain"}, b"later, please\n")
        link = http.client.HTTPConnection(*self.server.target, timeout=WATCH)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            link.request(self.command, self.path, body, headers)
            answer = link.getresponse()
            status, headers, text = answer.status, dict(answer.headers), answer.read()
        except OSError:
            self.close_connection = True
            return
        finally:
            link.close()
        # magnumd has done its part: only the answer is late.
        if strikes:
            time.sleep(mishap.delay)
        self.answer(status, headers, text)

    def answer(self, status, headers, text):
        try:
            self.send_response_only(status)
            for key, value in headers.items():
                if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            self.close_connection = True  # it did not wait

    do_GET = do_PUT = do_POST = do_DELETE = perform


class Mishaps(ThreadingHTTPServer):
    daemon_threads = True
    server_bind = socketserver.TCPServer.server_bind  # HTTPServer's asks DNS for our name

    def __init__(self, port, target):
        super().__init__(("0.0.0.0", port), Front)
        self.target, self.mishaps = target, {}
        threading.Thread(target=self.serve_forever, daemon=True).start()
