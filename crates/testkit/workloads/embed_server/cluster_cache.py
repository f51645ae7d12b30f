"""SIE's cluster cache: a Hugging Face cache in a bucket, brought into the local one.

    s3://bucket/prefix  ──▶  <prefix>/models--org--name/{refs/main, snapshots/<commit>/…}  ──▶  HF_HUB_CACHE

By S3's REST interface, addressed by path, signed (AWS signature version 4) when AWS_ACCESS_KEY_ID is set.
AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE as AWS's own tools read them.
"""

import datetime
import hashlib
import hmac
import os
import pathlib
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml

EMPTY = hashlib.sha256(b"").hexdigest()


def fetch(url, model, say):
    """Brings what the bucket has of a model; nothing there is no error, as the local cache may have it."""
    if not url.startswith("s3://"):
        raise ValueError(f"{url} is no s3:// address")
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    folder = "models--" + model.replace("/", "--")
    base = f"{prefix.strip('/')}/{folder}/".lstrip("/")
    names = [name.removeprefix(base) for name in listed(bucket, base)]
    # A hit is a snapshot that is not empty, as in SIE.
    if not any(name.startswith("snapshots/") for name in names):
        say(f"{url} has no {folder}")
        return
    local = hub_cache() / folder
    for name in sorted(names):
        if ".." in name.split("/"):
            raise ValueError(f"{name} in {url} points outside")
        target = local / name
        if name.startswith(("refs/", "snapshots/")) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            with request(bucket, base + name) as answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            part.rename(target)
    say(f"{folder}: {len(names)} files from {url}")


def hub_cache():
    if os.environ.get("HF_HUB_CACHE"):
        return pathlib.Path(os.environ["HF_HUB_CACHE"])
    return pathlib.Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"


def listed(bucket, prefix):
    names, token = [], None
    while True:
        query = {"list-type": "2", "prefix": prefix}
        if token:
            query["continuation-token"] = token
        with request(bucket, "", query) as answer:
            page = xml.fromstring(answer.read(16 << 20))
        names += [entry.text for entry in page.iterfind("{*}Contents/{*}Key")]
        token = page.findtext("{*}NextContinuationToken")
        if page.findtext("{*}IsTruncated") != "true" or not token:
            return names


def request(bucket, key, query=()):
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
    quote = urllib.parse.quote
    path = quote(f"/{bucket}/{key}" if key else f"/{bucket}")
    words = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(dict(query).items()))
    headers = {"x-amz-content-sha256": EMPTY}
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        base = urllib.parse.urlsplit(endpoint)
        headers = signed(base.netloc, base.path + path, words, region)
    address = f"{endpoint}{path}" + (f"?{words}" if words else "")
    # SSL_CERT_FILE is read by the default context itself.
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60, context=context)
    except urllib.error.URLError as problem:
        raise OSError(f"{address}: {problem}") from problem


def signed(host, path, query, region):
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    if os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = os.environ["AWS_SESSION_TOKEN"]
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{path}\n{query}\n{lines}\n{names}\n{EMPTY}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    return {
        **headers,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}",
    }
