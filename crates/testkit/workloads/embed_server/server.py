"""The protocols: OpenAI's /v1/embeddings, text-embeddings-inference's /embed, SIE's /v1/encode.

One thread a connection; errors are the protocols' own JSON.
"""

import base64
import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A request above this is not a test's.
LONGEST = 8 << 20


def run(host, port, models):
    class Bound(Handler):
        pass

    Bound.models = models
    # The first process of a container has no default for it, and would be waited for in vain.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(f"embed-server: listening on {host}:{port}", flush=True)
    ThreadingHTTPServer((host, port), Bound).serve_forever()


class Refused(Exception):
    def __init__(self, status, words, code=None):
        super().__init__(words)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    models = None

    def do_GET(self):
        self.answered(self.get)

    def do_POST(self):
        self.answered(self.post)

    def get(self):
        path = self.path.split("?")[0]
        if path in ("/health", "/healthz", "/readyz"):
            return {"status": "ok", "models": list(self.models.loaded)}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models.names]}
        if path == "/info":
            return {"model_id": self.models.names[0], "max_client_batch_size": 32, "version": "1.0"}
        raise Refused(404, f"there is no {path}")

    def post(self):
        length = int(self.headers.get("Content-Length", 0))
        if length > LONGEST:
            self.close_connection = True
            raise Refused(413, f"{length} bytes are too many")
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError as problem:
            raise Refused(400, f"the body is no JSON: {problem}") from None
        if self.path == "/v1/embeddings":
            return self.embeddings(body)
        if self.path == "/embed":
            vectors, _ = self.encode(None, texts(body.get("inputs")))
            return vectors.tolist()
        if self.path.startswith("/v1/encode/"):
            return self.sie(self.path.removeprefix("/v1/encode/"), body)
        raise Refused(404, f"there is no {self.path}")

    def embeddings(self, body):
        name = body.get("model") or self.models.names[0]
        vectors, tokens = self.encode(name, texts(body.get("input")))
        is_packed = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if is_packed else row.tolist(),
            }
            for index, row in enumerate(vectors)
        ]
        return {"object": "list", "data": data, "model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def sie(self, name, body):
        items = body.get("items")
        if not isinstance(items, list) or not items:
            raise Refused(400, "items is to be a list")
        vectors, _ = self.encode(name, texts([item.get("text") for item in items]))
        return {
            "model": name,
            "items": [
                {"id": item.get("id"), "dense": {"dims": len(row), "dtype": "float32", "values": row.tolist()}}
                for item, row in zip(items, vectors)
            ],
        }

    def encode(self, name, wanted):
        name = name or self.models.names[0]
        if name not in self.models.names:
            raise Refused(404, f"there is no model {name}; there is {', '.join(self.models.names)}", "MODEL_NOT_FOUND")
        try:
            encoder = self.models.load(name)
        except Exception as problem:  # whatever it is, the client is told
            raise Refused(502, f"{name} cannot be loaded: {problem}", "MODEL_LOAD_FAILED") from None
        return encoder.encode(wanted)

    def answered(self, handle):
        code = None
        try:
            status, document = 200, handle()
        except Refused as refused:
            status, code = refused.status, refused.code
            document = {"error": {"message": str(refused), "code": code or status}}
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-SIE-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, words, *values):
        # Probes by the second are not worth a line.
        if self.path not in ("/health", "/healthz", "/readyz"):
            super().log_message(words, *values)


def texts(wanted):
    """One text or a list of them."""
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, list) or not wanted or not all(isinstance(text, str) for text in wanted):
        raise Refused(400, "the input is to be a text or a list of texts")
    return wanted
