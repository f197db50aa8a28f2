"""push.py OUT LAYER.tar LAYER.tar.gz …: writes an OCI layout of one image with those layers."""

import hashlib
import json
import os
import shutil
import sys

out, *files = sys.argv[1:]
pairs = list(zip(files[::2], files[1::2]))


def digest_of(path):
    """Returns the digest of a file."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def put(data):
    """Stores bytes as a blob and returns its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


blobs = os.path.join(out, "blobs", "sha256")
os.makedirs(blobs)
kind = "application/vnd.oci.image."
layers = []
for _, packed in pairs:
    layer = digest_of(packed)
    shutil.copy(packed, os.path.join(blobs, layer.removeprefix("sha256:")))
    layers.append({"mediaType": kind + "layer.v1.tar+gzip", "digest": layer, "size": os.path.getsize(packed)})
config = put(json.dumps({
    "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
    "rootfs": {"type": "layers", "diff_ids": [digest_of(plain) for plain, _ in pairs]},
    "history": [{"created_by": "bench"} for _ in pairs],
}).encode())
manifest = put(json.dumps({
    "schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
    "config": {"mediaType": kind + "config.v1+json", **config},
    "layers": layers,
}).encode())
with open(os.path.join(out, "index.json"), "w", encoding="utf-8") as file:
    json.dump({"schemaVersion": 2, "manifests": [{"mediaType": kind + "manifest.v1+json", **manifest}]}, file)
with open(os.path.join(out, "oci-layout"), "w", encoding="utf-8") as file:
    json.dump({"imageLayoutVersion": "1.0.0"}, file)
