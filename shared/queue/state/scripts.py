"""Lua scripts with named keys and arguments, run by their digest (EVALSHA).

A script is a dataclass: each field is a key or an argument, and the Lua text uses the name of the field as a local variable.

    @dataclass(kw_only=True)
    class DropLease(Script[None]):
        lease: Key
        holder: Argument
        lua = "if redis.call('get', lease) == holder then redis.call('del', lease) end"

    DropLease(lease="scoring:lease:sweep", holder="4711").run(client)

As in any Lua script of Redis, an argument arrives as text. A run is one round trip. Only a server that does not know the script, because
it was restarted or ``SCRIPT FLUSH`` was sent, takes two more: redis-py sends the text and then repeats the call.
"""

import inspect
from collections.abc import Sequence
from typing import Annotated, ClassVar, Generic, TypeVar, cast

import redis
from redis.commands.core import Script as RedisScript

Key = Annotated[str, "KEYS"]
"""A key that the script reads or writes."""
Argument = Annotated[str | bytes | int | float, "ARGV"]
"""One argument."""
Arguments = Annotated[Sequence[str | bytes | int | float], "rest of ARGV"]
"""Any number of arguments, a table in Lua; only the last field of a script may be one."""

Answer = TypeVar("Answer")


class Script(Generic[Answer]):
    """A Lua script; ``Answer`` is the type of what it returns."""

    lua: ClassVar[str]
    """The text, without the lines that name keys and arguments."""
    _keys: ClassVar[list[str]]
    _arguments: ClassVar[list[str]]
    _rest: ClassVar[list[str]]
    _script: ClassVar[RedisScript]

    def __init_subclass__(cls) -> None:
        """Names the keys and arguments in front of the text."""
        fields = inspect.get_annotations(cls)
        cls._keys, cls._arguments, cls._rest = (
            [name for name, annotation in fields.items() if annotation == kind] for kind in (Key, Argument, Arguments)
        )
        if len(cls._keys) + len(cls._arguments) + len(cls._rest) < len(fields) or cls._rest not in ([], list(fields)[-1:]):
            raise TypeError(f"each field of {cls.__name__} must be a Key or an Argument; the last one may be Arguments")
        rest = "".join(f"local {name} = {{unpack(ARGV, {len(cls._arguments) + 1})}}\n" for name in cls._rest)
        text = _locals(cls._keys, "KEYS") + _locals(cls._arguments, "ARGV") + rest + cls.lua
        # this client never connects: each run names its own, so none is kept alive here
        cls._script = redis.Redis().register_script(text)

    def run(self, client: redis.Redis) -> Answer:
        """Runs the script on this server and returns its answer. Not for pipelines: they ask first whether the server knows the script.

        Raises:
            redis.RedisError: Redis is unavailable, or the script failed.
        """
        values = vars(self)
        keys = [values[name] for name in self._keys]
        arguments = [values[name] for name in self._arguments]
        for name in self._rest:
            arguments += values[name]
        return cast(Answer, self._script(keys=keys, args=arguments, client=client))


def _locals(names: Sequence[str], table: str) -> str:
    if not names:
        return ""
    return f"local {', '.join(names)} = {', '.join(f'{table}[{place}]' for place in range(1, len(names) + 1))}\n"
