#!/usr/bin/env python3
"""An image of one layer as an OCI archive, without a container engine; the same input gives the same bytes.

image.py OUT.tar NAME [--entrypoint=A,B] [--env=K=V] ENTRY…
ENTRY: PATH=FILE (mode 755 when FILE is executable, else 644), PATH->TARGET (a link) or PATH/ (a folder)
"""

import argparse
import hashlib
import io
import json
import os
import platform
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OCI = "application/vnd.oci.image."


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out")
    arguments.add_argument("name")
    arguments.add_argument("--entrypoint", default="")
    arguments.add_argument("--env", action="append", default=[])
    arguments.add_argument("entries", nargs="+")
    write(arguments.parse_args())


def write(wanted):
    layer = layer_of(wanted.entries)
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {"Env": wanted.env, "Entrypoint": [word for word in wanted.entrypoint.split(",") if word]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    blobs = {}

    def blob(media_type, content):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        blobs[digest(content)] = content
        return {"mediaType": OCI + media_type, "digest": digest(content), "size": len(content)}

    # Not compressed: it is read once, on this machine.
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": blob("config.v1+json", config),
        "layers": [blob("layer.v1.tar", layer)],
    }
    root = blob("manifest.v1+json", manifest)
    root["platform"] = {"architecture": ARCHITECTURE, "os": "linux"}
    root["annotations"] = {
        "io.containerd.image.name": wanted.name,
        "org.opencontainers.image.ref.name": wanted.name.rsplit(":", 1)[-1],
    }
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [root]}
    with tarfile.open(wanted.out, "w") as archive:
        add_file(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        add_file(archive, "index.json", json.dumps(index).encode(), 0o644)
        for name, content in blobs.items():
            add_file(archive, "blobs/sha256/" + name.removeprefix("sha256:"), content, 0o644)


def layer_of(entries):
    buffer, folders = io.BytesIO(), set()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for entry in entries:
            if "->" in entry:
                path, target = entry.split("->")
                add_folder(layer, os.path.dirname(path), folders)
                add(layer, path, tarfile.SYMTYPE, 0o777, target)
            elif entry.endswith("/"):
                add_folder(layer, entry.rstrip("/"), folders)
            else:
                path, file = entry.split("=", 1)
                add_folder(layer, os.path.dirname(path), folders)
                with open(file, "rb") as content:
                    add_file(layer, path, content.read(), 0o755 if os.access(file, os.X_OK) else 0o644)
    return buffer.getvalue()


def add_folder(layer, path, folders):
    if not path or path in folders:
        return
    add_folder(layer, os.path.dirname(path), folders)
    folders.add(path)
    add(layer, path, tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755)


def add_file(archive, path, content, mode):
    entry = tarfile.TarInfo(path)
    entry.mode, entry.size = mode, len(content)
    archive.addfile(entry, io.BytesIO(content))


def add(layer, path, kind, mode, target=""):
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.linkname = kind, mode, target
    layer.addfile(entry)


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


main()
