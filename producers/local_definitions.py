"""Finds the definitions on this machine, without importing one."""

from pathlib import Path

from shared.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "model_store"


def definitions_here(settings: Settings) -> set[str]:
    """The names of the definitions on this machine. Workers may have others."""
    folders = [PACKAGE, *([settings.definitions] if settings.definitions else [])]
    return {file.parent.name for folder in folders for file in folder.glob("*/model.py")}


def definition_folder(settings: Settings, name: str) -> Path | None:
    """The folder of a definition on this machine; None when it does not exist."""
    parents = [*([settings.definitions] if settings.definitions else []), PACKAGE]
    return next((parent.resolve() / name for parent in parents if (parent / name / "model.py").is_file()), None)
