"""An OTLP/HTTP server that reads a gzip body as many do: to the end of the first member, and no further.

What it read goes on, plain, to the URL that it is given, so that what arrives there is what such a server would have kept.
"""
import http.server
import sys
import urllib.request
import zlib

GZIP = 16 + zlib.MAX_WBITS


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompressobj(GZIP).decompress(body)
        request = urllib.request.Request(
            sys.argv[1] + self.path, body, {"Content-Type": self.headers["Content-Type"]}
        )
        with urllib.request.urlopen(request) as answer:
            said = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"listening on {server.server_address[1]}", flush=True)
server.serve_forever()
