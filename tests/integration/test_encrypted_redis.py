"""A Redis that wants TLS, and gives our user the rights that docs/how-to/protect-redis.md lists: the whole stack works with it."""

import asyncio
import contextlib
import ipaddress
import re
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import generate_latest

from producers.operations.metrics import registry
from shared.settings import Settings
from tests.conftest import REPOSITORY, make_place, own_server, stop, wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]


def documented_user() -> str:
    """The line of an ACL file in the documentation, with the password `password`."""
    [line] = re.findall(r"^user scoring on >password .*$", (REPOSITORY / "docs/how-to/protect-redis.md").read_text(), flags=re.MULTILINE)
    return line


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's Redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate_file, key_file


@contextlib.contextmanager
def tls_before(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """A port that speaks TLS and hands what it hears to a port that does not: the embedded server is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.new_event_loop()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_jobs_run_over_tls_as_a_user_with_the_documented_rights_alone(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text(f"user default off\nuser admin on >admin ~* &* +@all\n{documented_user()}\n")
    certificate, key = write_certificate(tmp_path)
    with own_server(tmp_path, "--aclfile", str(tmp_path / "users.acl")) as url:
        port = int(re.search(r":(\d+)/0$", url)[1])
        admin = redis.Redis(port=port, username="admin", password="admin", decode_responses=True)
        with tls_before(port, certificate, key) as tls_port:
            address = f"rediss://scoring:password@127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}"
            place = make_place(tmp_path, REDIS_URL=address)
            running = place.start()
            try:
                place.scoring("sample", "--rows", "5000", "--train-rows", "2000")
                place.scoring("train", "v1")
                done = place.scoring_json("score", place.sample_table, "--model", "v1")
                assert done["state"] == "done"
                wait_until(lambda: len(place.webhook.about(done["job_id"])) == 1, what="the notice")
                for service in ("worker", "control", "beat"):
                    assert place.scoring("health", service).stdout == "healthy\n"
                place.scoring("doctor")
                figures = generate_latest(registry(Settings(redis_url=address, bucket_url=str(place.bucket)))).decode()
                assert 'scoring_up{what="redis"} 1.0' in figures
            finally:
                code = stop(running)
            assert code == 0
        refused = [(entry["reason"], entry["context"], entry["object"]) for entry in admin.acl_log()]
        assert refused == []
