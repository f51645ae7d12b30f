#!/usr/bin/env python3
"""A small Hugging Face Hub over folders, for tests and the demo: hub.py CONFIG.json

It answers what `spec/huggingface-hub.md` lists, and is itself checked against the five versions of
huggingface_hub named there (`tests/hub.rs`). Standard library only. It prints "listening on
127.0.0.1:PORT" when it is ready; every request is one line "METHOD path range status bytes".

CONFIG: {"port": 0, "tokens": ["hf_…"], "redirects": false, "page": 1000, "repos": [
  {"id": "org/name", "type": "models", "gated": false, "private": false, "disabled": false,
   "refs": {"main": "<40 hex>"}, "commits": {"<40 hex>": "/folder"}}]}

tokens     every one of them sees everything; none at all leaves public repos open to all
redirects  LFS files answer 302 to another path, as the Hub does with its CDN
page       entries a page of a tree; more are linked with rel="next"
"""
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

LFS_SUFFIXES = {".safetensors", ".bin", ".onnx", ".h5", ".gguf", ".pt", ".parquet"}
LFS_SIZE = 10 << 20  # the Hub refuses larger files in plain git
TYPES = ("models", "datasets", "spaces", "kernels")
CHUNK = 1 << 20
WHEN = "2024-01-01T00:00:00.000Z"


class File:
    """One file of a commit, with the ids that git and LFS give it."""

    def __init__(self, path, source):
        self.path, self.source, self.size = path, source, source.stat().st_size
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.size)
        with source.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                sha256.update(chunk)
                git.update(chunk)
        self.sha256 = sha256.hexdigest()
        self.lfs = source.suffix in LFS_SUFFIXES or self.size > LFS_SIZE
        self.pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()
        )
        self.oid = git_id(self.pointer) if self.lfs else git.hexdigest()
        self.etag = self.sha256 if self.lfs else self.oid

    def lfs_entry(self, key):
        return {key: self.sha256, "size": self.size, "pointerSize": len(self.pointer)}

    def tree_entry(self):
        entry = {"type": "file", "oid": self.oid, "size": self.size, "path": self.path}
        if self.lfs:
            entry["lfs"] = self.lfs_entry("oid")
        return entry

    def sibling(self, blobs):
        entry = {"rfilename": self.path}
        if blobs:
            entry |= {"size": self.size, "blobId": self.oid}
            if self.lfs:
                entry["lfs"] = self.lfs_entry("sha256")
        return entry


class Repo:
    """A repository: commits (a folder each) and the names that point at them."""

    def __init__(self, config):
        self.id, self.type = config["id"], config.get("type", "models")
        self.gated, self.private, self.disabled = (config.get(k, False) for k in ("gated", "private", "disabled"))
        self.refs = config["refs"]
        self.commits = {commit: files_of(Path(folder)) for commit, folder in config["commits"].items()}

    def commit(self, revision):
        if revision.startswith("refs/heads/"):
            revision = revision[len("refs/heads/") :]
        if revision in self.refs:
            return self.refs[revision]
        if revision in self.commits:
            return revision
        # git takes a unique beginning of a commit, and so does the Hub
        found = [c for c in self.commits if len(revision) >= 7 and c.startswith(revision)]
        if len(found) == 1:
            return found[0]
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


class Refusal(Exception):
    """An answer that is an error: the body's text, and the headers that clients go by."""

    def __init__(self, status, text, code=None, **headers):
        super().__init__(text)
        self.status, self.headers = status, {k.replace("_", "-"): v for k, v in headers.items()}
        self.headers["X-Error-Message"] = text
        if code:
            self.headers["X-Error-Code"] = code


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def files_of(folder):
    paths = (p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts)
    return {(name := p.relative_to(folder).as_posix()): File(name, p) for p in sorted(paths)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    config, repos, tokens, hub_lock = {}, {}, set(), threading.Lock()
    disable_nagle_algorithm = True

    def do_HEAD(self):
        self.handle_request()

    def do_GET(self):
        self.handle_request()

    def do_POST(self):
        self.handle_request()

    def handle_request(self):
        self.status_sent, self.body_sent = 0, 0
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        try:
            self.token = self.bearer()
            self.route(url.path)
        except Refusal as refusal:
            self.answer(refusal.status, {"error": str(refusal)}, refusal.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            wanted = self.headers.get("Range", "-")
            with self.hub_lock:
                print(self.command, self.path, wanted, self.status_sent, self.body_sent, flush=True)

    # -- who asks, and for what ----------------------------------------------------------------

    def bearer(self):
        value = self.headers.get("Authorization", "")
        if not value:
            return None
        token = value[len("Bearer ") :] if value.startswith("Bearer ") else ""
        if token not in self.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return token

    def route(self, path):
        # Split on the literal words first, decode after: a revision may hold %2F.
        if path == "/api/whoami-v2":
            return self.whoami()
        if path.startswith("/cdn-lfs/"):
            return self.cdn(path)
        if match := re.fullmatch(r"/api/(models|datasets|spaces|kernels)/(.+)", path):
            return self.api(*match.groups())
        if match := re.fullmatch(r"/(?:(datasets|spaces|kernels)/)?(.+?)/(resolve|raw)/([^/]+)/(.+)", path):
            kind, repo, door, revision, name = match.groups()
            repo = self.repo(kind or "models", repo)
            if repo.gated and not self.token:
                raise Refusal(403, f"Access to model {repo.id} is restricted.", "GatedRepo")
            commit = repo.commit(unquote(revision))
            return self.file(repo, commit, unquote(name), door)
        raise Refusal(404, "Not found")

    def repo(self, kind, name):
        # The Hub's ids are case-insensitive in their look-up, the answer has the true spelling.
        repo = self.repos.get((kind, unquote(name).lower()))
        if repo is None or (repo.private and not self.token):
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if repo.disabled:
            raise Refusal(403, "Access to this resource is disabled.")
        return repo

    def api(self, kind, rest):
        for door, pattern in (
            ("refs", r"(.+)/refs"),
            ("tree", r"(.+?)/tree/([^/]+)(?:/(.*))?"),
            ("paths-info", r"(.+?)/paths-info/([^/]+)"),
            ("info", r"(.+?)/revision/([^/]+)"),
            ("info", r"(.+)"),
        ):
            match = re.fullmatch(pattern, rest)
            if not match:
                continue
            repo, *more = match.groups()
            repo = self.repo(kind, repo)
            if door == "refs":
                return self.refs(repo)
            commit = repo.commit(unquote(more[0]) if more else "main")
            if door == "tree":
                return self.tree(repo, commit, unquote(more[1] or "").strip("/"))
            return self.paths_info(repo, commit) if door == "paths-info" else self.info(repo, commit)
        raise Refusal(404, "Not found")

    # -- the routes ----------------------------------------------------------------------------

    def whoami(self):
        if not self.token:
            raise Refusal(401, "Invalid username or password.")
        self.answer(200, {"type": "user", "id": "1", "name": "tester", "fullname": "Tester", "orgs": [],
                          "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": "read"}}})

    def info(self, repo, commit):
        blobs = self.query.get("blobs", "").lower() in ("true", "1")
        files = repo.commits[commit].values()
        self.answer(200, {
            "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24], "id": repo.id, "modelId": repo.id,
            "author": repo.id.split("/")[0], "sha": commit, "lastModified": WHEN, "createdAt": WHEN,
            "private": repo.private, "gated": "auto" if repo.gated else False, "disabled": repo.disabled,
            "downloads": 0, "likes": 0, "tags": [], "cardData": {}, "config": {},
            "usedStorage": sum(f.size for f in files), "siblings": [f.sibling(blobs) for f in files]})

    def refs(self, repo):
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in sorted(repo.refs.items())]
        self.answer(200, {"branches": branches, "tags": [], "converts": []})

    def tree(self, repo, commit, below):
        files = repo.commits[commit]
        entries = entries_below(files, below, self.query.get("recursive", "").lower() in ("true", "1"))
        if not entries and below:
            raise Refusal(404, f"{below} does not exist on {commit}", "EntryNotFound", X_Repo_Commit=commit)
        page, start = self.config.get("page", 1000), int(self.query.get("cursor", 0))
        headers = {}
        if start + page < len(entries):
            query = urlencode({**self.query, "cursor": start + page})
            path = urlsplit(self.path).path
            headers["Link"] = f'<http://{self.headers["Host"]}{path}?{query}>; rel="next"'
        self.answer(200, entries[start : start + page], headers)

    def paths_info(self, repo, commit):
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        files = repo.commits[commit]
        folders = {e["path"]: e for e in entries_below(files, "", True) if e["type"] == "directory"}
        self.answer(200, [files[p].tree_entry() if p in files else folders[p]
                          for p in (p.strip("/") for p in paths) if p in files or p in folders])

    def file(self, repo, commit, name, door):
        file = repo.commits[commit].get(name)
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit)
        if door == "raw" and file.lfs:
            return self.answer(200, file.pointer, {"Content-Type": "text/plain", "X-Repo-Commit": commit})
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            if self.config.get("redirects"):
                # Another host, as the CDN is: clients look at a 302 from there, and do not follow it.
                target = f'http://localhost:{self.server.server_address[1]}/cdn-lfs/{repo.type}/{repo.id}/{commit}/{name}?signed=1'
                return self.answer(302, b"", headers | {"Location": target})
        self.send_file(file, headers)

    def cdn(self, path):
        # As a signed address does, it asks for its query and takes no other credential.
        if self.query.get("signed") != "1" or self.token:
            raise Refusal(400, "Only one auth mechanism allowed")
        kind, rest = path[len("/cdn-lfs/") :].split("/", 1)
        match = re.fullmatch(r"(.+?)/([0-9a-f]{40})/(.+)", rest)
        file = self.repos[kind, match[1].lower()].commits[match[2]][unquote(match[3])]
        self.send_file(file, {"ETag": f'"{file.sha256}"', "Accept-Ranges": "bytes"})

    # -- answers -------------------------------------------------------------------------------

    def send_file(self, file, headers):
        if self.headers.get("If-None-Match", "").strip('W/"') == file.etag:
            return self.start(304, headers)
        status, start, end = 200, 0, file.size  # `end` is exclusive
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = match.groups()
            if file.size == 0:
                headers["Content-Range"] = "bytes */0"
            elif first or last:
                start = int(first) if first else max(0, file.size - int(last))
                end = min(file.size, int(last) + 1) if first and last else file.size
                if start >= file.size:
                    return self.answer(416, b"", headers | {"Content-Range": f"bytes */{file.size}"})
                status = 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        kind = "application/octet-stream" if file.lfs else "text/plain; charset=utf-8"
        self.start(status, headers | {"Content-Type": kind, "Content-Length": str(end - start)})
        if self.command == "HEAD":
            return
        with file.source.open("rb") as stream:
            stream.seek(start)
            left = end - start
            while left and (chunk := stream.read(min(CHUNK, left))):
                self.wfile.write(chunk)
                left -= len(chunk)
                self.body_sent += len(chunk)

    def answer(self, status, body, headers=None):
        headers = dict(headers or {})
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json; charset=utf-8"
        self.start(status, headers | {"Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)
            self.body_sent += len(body)

    def start(self, status, headers):
        self.status_sent = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass  # one line a request is printed by handle_request


def entries_below(files, below, recursive):
    """The files and folders below a path, as a tree lists them: sorted, folders before their files."""
    prefix, found = below + "/" if below else "", {}
    for name, file in files.items():
        if not name.startswith(prefix):
            continue
        steps = name[len(prefix) :].split("/")
        for depth in range(1, len(steps) if recursive else min(len(steps), 2)):
            folder = prefix + "/".join(steps[:depth])
            if folder not in found:
                oid = hashlib.sha1(b"tree " + folder.encode()).hexdigest()
                found[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        if recursive or len(steps) == 1:
            found[name] = file.tree_entry()
    return [found[name] for name in sorted(found)]


def main():
    Handler.config = json.loads(Path(sys.argv[1]).read_text())
    for config in Handler.config["repos"]:
        repo = Repo(config)
        Handler.repos[repo.type, repo.id.lower()] = repo
    Handler.tokens = set(Handler.config.get("tokens", []))
    server = ThreadingHTTPServer(("127.0.0.1", Handler.config.get("port", 0)), Handler)
    server.daemon_threads = True
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
