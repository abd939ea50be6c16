"""A real S3 server for the tests (moto's), and a process that talks to it."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import fsspec
import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

STORE_BUCKET = "shop"


def access(url: str) -> dict[str, str]:
    """The environment of a process that finds its object store at ``url``."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextlib.contextmanager
def talking_to(url: str) -> Iterator[Any]:
    """Any s3 file system made inside the block talks to this server, and none made before or after it."""
    kind = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in access(url).items():
            patch.setenv(name, value)
        kind.clear_instance_cache()
        yield boto3.session.Session().client("s3")
        kind.clear_instance_cache()


@contextlib.contextmanager
def object_store() -> Iterator[str]:
    """The address of a running S3 server with one bucket in it."""
    # moto answers 500 when two copies to one place meet, and reports it at length; the caller tries again
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    # moto looks and writes in two steps, a real store in one
    one_at_a_time, put_object = threading.Lock(), S3Response.put_object

    def put_in_one_step(self: S3Response) -> Any:
        with one_at_a_time:
            return put_object(self)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(S3Response, "put_object", put_in_one_step)
            with talking_to(url) as client:
                client.create_bucket(Bucket=STORE_BUCKET)
            yield url
    finally:
        server.stop()
