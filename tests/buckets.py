"""A bucket on a fake S3 server on 127.0.0.1; run as a program, this is the server."""

from __future__ import annotations

import logging
import sys
from typing import Any


class Bucket:
    """A bucket, accessed through boto3."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self.name = client, name

    def url(self, key: str) -> str:
        """Return the URL of a key."""
        return f"s3://{self.name}/{key}"

    def names(self) -> list[str]:
        """Return all keys, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        content: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def remove(self, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self.name, Key=key)


def serve() -> None:
    """Print the address, then serve until stdin closes."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - who only looks into a bucket need not have it

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    serve()
