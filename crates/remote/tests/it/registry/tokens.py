"""A token server for docker-registry (distribution, docs/spec/auth/token.md): signed JWTs with the
certificate in x5c. `user` with `password` may do everything except access `forbidden/`; anyone may pull
from `public/`. Prints its address and serves until it is killed.

usage: tokens.py KEY CERTIFICATE
"""

import base64
import http.server
import json
import subprocess
import sys
import time
import urllib.parse

KEY, CERTIFICATE = sys.argv[1:]
WHO = "Basic " + base64.b64encode(b"user:password").decode()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(access):
    lines = open(CERTIFICATE).read().split("-----")[2].split()
    header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines)]}
    now = int(time.time())
    claims = {"iss": "tokens", "sub": "user", "aud": "test", "exp": now + 300, "nbf": now - 10,
              "iat": now, "jti": str(time.time_ns()), "access": access}
    text = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    sign = ["openssl", "dgst", "-sha256", "-sign", KEY]
    return text + "." + b64(subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        who = self.headers.get("Authorization")
        if who is not None and who != WHO:
            return self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]})
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            actions = actions.split(",")
            if who is None:
                actions = [a for a in actions if a == "pull" and name.startswith("public/")]
            if name.startswith("forbidden/"):
                actions = []
            access.append({"type": kind, "name": name, "actions": actions})
        self.answer(200, {"token": token(access), "expires_in": 300})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
