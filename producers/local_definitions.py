"""The definitions that this machine has, without importing one."""

from pathlib import Path

from shared.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "model_store"


def definitions_here(settings: Settings) -> set[str]:
    """The definitions on this machine: no worker is asked for those that it may have beside them."""
    folders = [PACKAGE, *([settings.definitions] if settings.definitions else [])]
    return {file.parent.name for folder in folders for file in folder.glob("*/model.py")}
