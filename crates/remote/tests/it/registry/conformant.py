"""A registry that follows distribution-spec 1.1 where docker-registry 2.8 and crane's do not:
uploads that can be resumed after an interruption, the referrers API (in pages of one), tags in pages,
sparse indexes, mounts. In memory, without access control. Prints its address and serves until it is killed.
"""

import hashlib
import http.server
import json
import re
import threading
import urllib.parse
import uuid

BLOBS, MANIFESTS, TAGS, UPLOADS = {}, {}, {}, {}
# Only one request at a time adds bytes to an upload; a request for its status waits for that.
TURNS = {}
UPLOAD = re.compile(r"^/v2/(.+)/blobs/uploads/([0-9a-f]*)$")
BLOB = re.compile(r"^/v2/(.+)/blobs/(sha256:[0-9a-f]{64})$")
MANIFEST = re.compile(r"^/v2/(.+)/manifests/(.+)$")
TAG_LIST = re.compile(r"^/v2/(.+)/tags/list$")
REFERRERS = re.compile(r"^/v2/(.+)/referrers/(sha256:[0-9a-f]{64})$")
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        repository, _ = UPLOAD.match(self.url().path).groups()
        mount, source = self.query("mount"), self.query("from")
        if mount and (source, mount) in BLOBS:
            BLOBS[repository, mount] = BLOBS[source, mount]
            return self.answer(201, {"Docker-Content-Digest": mount})
        session = uuid.uuid4().hex
        UPLOADS[session], TURNS[session] = b"", threading.Lock()
        self.state(202, repository, session)

    def do_GET(self):
        path = self.url().path
        if found := UPLOAD.match(path):
            repository, session = found.groups()
            if session not in UPLOADS:
                return self.unknown("BLOB_UPLOAD")
            with TURNS[session]:
                return self.state(204, repository, session)
        if found := TAG_LIST.match(path):
            return self.tags(found.group(1))
        if found := REFERRERS.match(path):
            return self.referrers(*found.groups())
        if found := BLOB.match(path):
            data = BLOBS.get(found.groups())
            return self.unknown("BLOB") if data is None else self.answer(200, {}, data)
        repository, version = MANIFEST.match(path).groups()
        known = MANIFESTS.get((repository, TAGS.get((repository, version), version)))
        if known is None:
            return self.unknown("MANIFEST")
        media_type, data = known
        self.answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest(data)}, data)

    do_HEAD = do_GET

    def do_PATCH(self):
        repository, session = UPLOAD.match(self.url().path).groups()
        first = int(self.headers.get("Content-Range", "0-").split("-")[0])
        if session not in UPLOADS:
            return self.unknown("BLOB_UPLOAD")
        if first != len(UPLOADS[session]):
            return self.answer(416, {})
        self.take(session)
        self.state(202, repository, session)

    def do_PUT(self):
        path = self.url().path
        if found := UPLOAD.match(path):
            repository, session = found.groups()
            if session not in UPLOADS:
                return self.unknown("BLOB_UPLOAD")
            self.take(session)
            data = UPLOADS.pop(session)
            if digest(data) != self.query("digest"):
                return self.answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            BLOBS[repository, digest(data)] = data
            return self.answer(201, {})
        repository, version = MANIFEST.match(path).groups()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        MANIFESTS[repository, digest(data)] = (self.headers["Content-Type"], data)
        if not version.startswith("sha256:"):
            TAGS[repository, version] = digest(data)
        subject = json.loads(data).get("subject")
        self.answer(201, {"OCI-Subject": subject["digest"]} if subject else {})

    def take(self, session):
        """All of the body that is received, also when the connection breaks."""
        left = int(self.headers.get("Content-Length", 0))
        with TURNS[session]:
            while left:
                part = self.rfile.read1(min(left, 65536))
                if not part:
                    self.close_connection = True
                    raise ConnectionError("cut")
                UPLOADS[session] += part
                left -= len(part)

    def referrers(self, repository, subject):
        listed = []
        for (of, name), (media_type, data) in sorted(MANIFESTS.items()):
            document = json.loads(data)
            if of == repository and (document.get("subject") or {}).get("digest") == subject:
                listed.append({"mediaType": media_type, "digest": name, "size": len(data),
                               "artifactType": document.get("artifactType")})
        page = int(self.query("page") or 0)
        headers = {"Content-Type": INDEX}
        if page + 1 < len(listed):
            headers["Link"] = f'</v2/{repository}/referrers/{subject}?page={page + 1}>; rel="next"'
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed[page:page + 1]}
        self.answer(200, headers, json.dumps(body).encode())

    def tags(self, repository):
        """Pages of two tags, with the link among others; the repository `endless` never ends."""
        known = sorted(tag for of, tag in TAGS if of == repository)
        start = int(self.query("start") or 0)
        headers = {"Content-Type": "application/json"}
        if repository == "endless":
            headers["Link"] = '</v2/endless/tags/list?start=0>; rel="next"'
        elif start + 2 < len(known):
            headers["Link"] = f'</v2/{repository}/tags/list>; rel="first", </v2/{repository}/tags/list?start={start + 2}>; rel=next'
        self.answer(200, headers, json.dumps({"name": repository, "tags": known[start:start + 2]}).encode())

    def url(self):
        return urllib.parse.urlsplit(self.path)

    def query(self, name):
        return urllib.parse.parse_qs(self.url().query).get(name, [None])[0]

    def state(self, status, repository, session):
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{session}",
                   "Range": f"0-{max(len(UPLOADS[session]) - 1, 0)}"}
        self.answer(status, headers)

    def unknown(self, what):
        self.answer(404, {}, json.dumps({"errors": [{"code": what + "_UNKNOWN"}]}).encode())

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
