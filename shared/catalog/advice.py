"""Commands to suggest for a release that cannot be used."""

import shlex
from collections.abc import Mapping
from types import MappingProxyType

from shared.catalog.aliases import LATEST
from shared.catalog.manifests import TableFingerprint


def how_to_retrain(release: str, tables: Mapping[str, TableFingerprint] = MappingProxyType({}), *, alias: str = "") -> str:
    """The command that replaces a release that can no longer be used, with the tables of its manifest where they are known.

    ``alias`` is an alias that must point to the new release; ``latest`` of its definition does so in any case. Without ``--again`` the
    command would return the existing training.
    """
    named = "".join(f" --{name} {shlex.quote(tables[name].path)}" for name in ("train", "eval") if name in tables)
    named += f" --alias {alias}" if alias and not alias.endswith(LATEST) else ""
    return f"Train it again: scoring train {release.partition('@')[0]}{named} --again"
