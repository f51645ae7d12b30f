"""An embedding server as the platforms have them, light enough for tests: no torch, real vectors.

    python3 -m embed_server [--host H] [--port P]                  a server of one model
    python3 -m embed_server serve [--host H] [--port P] [--bundle B]   a worker of SIE

The model comes out of a Hugging Face cache (HF_HUB_CACHE, HF_HOME) by huggingface_hub's own resolution;
with HF_HUB_OFFLINE=1 and a model that is not there, the server says so and ends. A worker of SIE fills its
cache from SIE_CLUSTER_CACHE (s3://bucket/prefix) first, and as SIE's does it becomes ready without a model
that could not be loaded; a request for it then fails.

MODEL_ID or SIE_PRELOAD_MODELS name the model (sentence-transformers/all-MiniLM-L6-v2).
"""

import argparse
import os
import sys
import time

from . import cluster_cache, server
from .encoder import Encoder

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main():
    arguments = argparse.ArgumentParser(prog="embed_server")
    arguments.add_argument("role", nargs="?", choices=["serve"], help="serve: as a worker of SIE")
    arguments.add_argument("--host", default="0.0.0.0")
    arguments.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8080")))
    arguments.add_argument("--bundle", default="default")
    wanted = arguments.parse_args()
    names = os.environ.get("SIE_PRELOAD_MODELS") or os.environ.get("MODEL_ID") or DEFAULT_MODEL
    models = Models([name for name in names.split(",") if name])
    for name in models.names:
        try:
            models.load(name)
        except Exception as problem:  # whatever it is, it is told
            say(f"cannot load {name}: {problem}")
            if wanted.role != "serve":
                sys.exit(1)
    server.run(wanted.host, wanted.port, models)


class Models:
    """The models of this server by their names; loaded ones are kept."""

    def __init__(self, names):
        self.names = names
        self.loaded = {}

    def load(self, name):
        """The encoder of a model; raises what keeps it from being loaded."""
        if name not in self.loaded:
            url = os.environ.get("SIE_CLUSTER_CACHE")
            if url:
                cluster_cache.fetch(url, name, say)
            started = time.monotonic()
            folder = snapshot(name)
            self.loaded[name] = Encoder(folder)
            say(f"{name} loaded from {folder} in {time.monotonic() - started:.1f} s")
        return self.loaded[name]


def snapshot(name):
    # Late: it reads the environment when it is imported.
    from huggingface_hub import snapshot_download

    return snapshot_download(name, allow_patterns=["*.json", "*.safetensors"])


def say(words):
    print(f"embed-server: {words}", file=sys.stderr, flush=True)


main()
