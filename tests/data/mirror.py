"""A web server on 127.0.0.1 for the tests of downloads; its behaviour is chosen per path."""

import contextlib
import http.server
import socket
import threading


class Mirror:
    """Serves `files` ({path: bytes}) and records every request as (path, Range header or None).

    ignore_range   answer every request with the whole file.
    cut            {path: number of bytes after which the connection is dropped}, used up by one request each.
    status         {path: [codes to answer before the file is served]}.
    shifted        answer a Range request with a Content-Range that begins elsewhere.
    no_length      do not announce the length of a body; its end is the end of the connection.
    """

    def __init__(self, files, ignore_range=False, cut=None, status=None, shifted=False, no_length=False):
        self.files, self.ignore_range, self.shifted, self.no_length = files, ignore_range, shifted, no_length
        self.cut, self.status, self.requests = dict(cut or {}), {k: list(v) for k, v in (status or {}).items()}, []

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def __enter__(self):
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, handler):
        path, asked = handler.path, handler.headers.get("Range")
        self.requests.append((path, asked))
        if self.status.get(path):
            return handler.send_error(self.status[path].pop(0))
        if path not in self.files:
            return handler.send_error(404)
        content, start = self.files[path], 0
        if asked and not self.ignore_range:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.send_header("Content-Length", "0")
                return handler.end_headers()
            start -= 1 if self.shifted else 0
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        body = content[start:]
        if not self.no_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if path in self.cut:
            handler.wfile.write(body[: self.cut.pop(path)])
            handler.wfile.flush()
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return None
        with contextlib.suppress(OSError):  # the client may go away
            handler.wfile.write(body)
        return None


def closed_port_url(path="/file"):
    """A URL on this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}{path}"
