"""A tiny eligibility service: answers any request and says whom it was told is calling."""

import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Eligibility(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(f"{self.command} {self.path}\ncaller: {self.headers.get('x-forwarded-client-cert')}\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(f"{self.command} {self.path}\nsha256: {hashlib.sha256(body).hexdigest()}\n")

    def answer(self, text):
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    ThreadingHTTPServer(("127.0.0.1", port), Eligibility).serve_forever()
