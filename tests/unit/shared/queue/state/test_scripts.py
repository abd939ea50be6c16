import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from shared.queue.client import connect_to_redis
from shared.queue.state import active_workers, counters, leases, progress
from shared.queue.state.scripts import Argument, Arguments, Key, Script

REPOSITORY = Path(__file__).resolve().parents[5]

pytestmark = pytest.mark.server


@dataclass(kw_only=True)
class Shown(Script[list[bytes]]):
    """Returns all that it was given."""

    first: Key
    limit: Argument
    second: Key
    word: Argument
    others: Arguments

    lua = "return {first, second, limit, word, unpack(others)}"


@dataclass(kw_only=True)
class Wrong(Script[None]):
    """Fails."""

    lua = "return redis.call('no-such-command')"


@pytest.fixture
def client(redis_url) -> redis.Redis:
    return connect_to_redis(redis_url)


def calls(client: redis.Redis) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in client.info("commandstats").items()}


def test_keys_and_arguments_have_their_names_in_the_script(client):
    shown = Shown(first="k1", second="k2", limit=7, word=b"\xff", others=["x", 0.5])
    assert shown.run(client) == [b"k1", b"k2", b"7", b"\xff", b"x", b"0.5"]
    assert Shown(first="k1", second="k2", limit=7, word="", others=[]).run(client) == [b"k1", b"k2", b"7", b""]


def test_a_key_that_is_forgotten_or_unknown_is_refused():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'second'"):
        Shown(first="k1", limit=7, word="", others=[])
    with pytest.raises(TypeError, match="unexpected keyword argument 'third'"):
        Shown(first="k1", second="k2", third="k3", limit=7, word="", others=[])


def test_a_field_that_is_no_key_and_no_argument_is_refused():
    with pytest.raises(TypeError, match="each field of Plain must be a Key or an Argument"):

        class Plain(Script[None]):
            number: int
            lua = ""

    with pytest.raises(TypeError, match="the last one may be Arguments"):

        class Early(Script[None]):
            others: Arguments
            after: Argument
            lua = ""


def test_a_script_that_redis_has_lost_is_sent_again(client):
    shown = Shown(first="k1", second="k2", limit=7, word="", others=[])
    before = shown.run(client)
    client.script_flush()
    assert shown.run(client) == before


def test_each_script_runs_on_a_server_that_was_emptied_and_restarted(client):
    def lost() -> None:
        client.flushall()
        client.script_flush()

    def mark(index: int) -> progress.Marked:
        counts = counters.of_chunk(rows=10, rejects=1, stages={"read": 0.5}, release_was_kept=True)
        return progress.mark_part(client, "job", index, counts=counts, attempts="begun")

    assert mark(1) == progress.Marked(chunks=1, rejected=1)
    lost()
    assert mark(2) == progress.Marked(chunks=1, rejected=1)
    assert counters.read_counters(client).chunks == 1
    lost()
    active_workers.beat(client, "w1", ["score"])
    lost()
    assert active_workers.workers_by_queue(client, ["score"]) == {"score": 0}
    with leases.leased(client, "step") as is_free:
        assert is_free
        lost()
    assert leases.are_leased(client, ["step"]) == [False]


def test_a_chunk_is_marked_in_one_round_trip(client):
    def mark(index: int) -> None:
        counts = counters.of_chunk(rows=10, rejects=1, stages={"read": 0.5}, release_was_kept=True)
        progress.mark_part(client, "job", index, counts=counts, attempts="begun")

    mark(0)
    client.config_resetstat()
    for index in range(1, 6):
        mark(index)
    sent = {name: number for name, number in calls(client).items() if name not in ("info", "config|resetstat")}
    in_scripts = {"hdel": 5, "hset": 5, "expire": 15, "incrby": 5, "hincrbyfloat": 30, "hlen": 5}
    assert sent == {"evalsha": 5} | in_scripts


def test_a_script_that_fails_raises_an_error_of_redis(client):
    with pytest.raises(redis.RedisError):
        Wrong().run(client)


def test_without_redis_an_error_of_redis_is_raised(no_redis_url):
    with pytest.raises(redis.RedisError):
        Shown(first="k1", second="k2", limit=7, word="", others=[]).run(connect_to_redis(no_redis_url))


def test_no_other_module_sends_a_script():
    senders = [
        str(path.relative_to(REPOSITORY)) for path in _modules() if _names(path.read_text()) & {"eval", "evalsha", "register_script"}
    ]
    assert senders == ["shared/queue/state/scripts.py"]


def _modules() -> Sequence[Path]:
    packages = ("shared", "producers", "workers", "model_store", "benchmarks")
    return [path for package in packages for path in sorted((REPOSITORY / package).rglob("*.py"))]


def _names(code: str) -> set[str]:
    """The methods that a module calls."""
    called = (node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    return {function.attr for function in called if isinstance(function, ast.Attribute)}
