"""Finds and loads model definitions: every folder with a ``model.py`` beside this file is one, without registration.

Definitions of an older service run unmodified from a folder of their own, given as ``extra``. Such code is imported as the package
``definition_<name>_<digest of its source>``: definitions with the same name, or changed ones, never mix, and their pickled objects are
found again in every process.
"""

import functools
import hashlib
import importlib
import importlib.util
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from model_store import model_template
from model_store.foreign_code import (
    DefinitionHungError,
    SoftTimeLimitExceeded,
    calling,
    describe,
    failure,
    is_shutdown,
    place_of,
    process_kept_as_it_is,
)
from shared.catalog.manifests import KEYS
from shared.errors import ModelError

PACKAGE_FOLDER = Path(__file__).resolve().parent
METHODS = ("_model_definition", "train", "score", "predict", "save", "load")
TEMPLATE = "model_template.py"
"""The file that older definitions load from their parent folder."""

ENTITY = KEYS[0]
NO_KEYS = frozenset({"cr", "cr_low", "cr_high", "Clicks", "Conversions", "week", "computer", "smartphone"})
"""Columns of a table or result that cannot be keys, because they have another meaning."""

LOCKS = {"xgboost": "requirements-xgboost.lock"}
"""Library that definitions of the older service need -> our lock file that has it."""
OUTSIDE = "definition_"
"""Prefix of the packages of definitions outside this folder."""

NAMED: tuple[tuple[str, tuple[str, ...] | None], ...] = (("KEYS", KEYS), ("COLUMNS", None), ("TEXT", ()))
"""Attributes of a definition's class that name columns, and their defaults."""


_excluded: dict[tuple[str, str], str] = {}
"""Name and digest of definitions that must not be imported here, with the reason."""

_tried: set[tuple[str, str]] = set()
"""Name and digest of definitions that this process imported, or tried to import and survived."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class UnknownDefinitionError(ModelError):
    """Raised when there is no definition of a name here; another process may know it through its ``SCORING_DEFINITIONS``."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A definition that was found, imported and checked to be complete."""

    name: str
    folder: Path
    model_class: type[Any]
    """Called without arguments; ``load`` is a method of the instance."""
    data_preparation: Callable[..., tuple[Any, Any, Any]]
    source_sha256: str
    """Digest of the paths and contents of its Python files at the time of the import."""
    keys: tuple[str, ...]
    """The key columns of the output."""
    columns: tuple[str, ...] | None
    """The feature columns that it needs; None for all."""
    text: tuple[str, ...]
    """The feature columns that are text."""
    model_file: str
    """The file in a release's folder that ``load`` receives."""

    @property
    def code(self) -> str:
        """Describes the files that its digest covers."""
        return code_of(self.folder)

    @property
    def has_interval(self) -> bool:
        """True if its models can predict an interval around the rate."""
        return callable(getattr(self.model_class, "predict_interval", None))

    @property
    def has_contributions(self) -> bool:
        """True if its models can say what each column contributes to a rate."""
        return callable(getattr(self.model_class, "contributions", None))

    def columns_of_table(self, features: Sequence[str]) -> list[str]:
        """Returns the columns that ``data_preparation`` receives, except the target: the keys without the device, then the features."""
        return list(dict.fromkeys([*(key for key in self.keys if key != "device"), *features]))

    def prepare(self, table: Any, target_col: str | None = "cr") -> tuple[Any, Any, Any]:  # noqa: ANN401 - pandas comes with definitions
        """Returns features, target and error of a table from ``data_preparation``, which drops the keys like the entity id."""
        if self.keys == KEYS:
            if target_col is None and self.data_preparation is model_template.data_preparation and table.columns[0] == ENTITY:
                # the template drops the id: a slice gives the same frame in a quarter of the time, most of that of a single row
                return table.iloc[:, 1:], None, None
            return self.data_preparation(table, target_col=target_col)
        away = [key for key in self.keys if key != "device" and key not in self.text]
        return self.data_preparation(table, target_col=target_col, cols_to_drop=away)


def list_definitions(extra: Path | None = None) -> list[str]:
    """Returns the names of all definitions in natural order (v2 before v10).

    Raises:
        ModelError: ``extra`` is not a folder, or contains a name that is already used here.
    """
    return sorted(
        _find_folders(extra),
        key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.findall(r"\d+|\D+", name)],
    )


def load_definition(name: str, extra: Path | None = None) -> Definition:
    """Imports a definition, once for each state of its source.

    Raises:
        ModelError: there is no such definition, it cannot be imported, or it is incomplete.
    """
    folders = _find_folders(extra)
    if name not in folders:
        known = ", ".join(list_definitions(extra)) or "none"
        where = "is not set there" if extra is None else f"is {extra} there"
        raise UnknownDefinitionError(
            f"there is no definition {name!r} on {socket.gethostname()}; there are: {known} (SCORING_DEFINITIONS {where})",
            next_step="If it lies in a folder of its own, name the folder above it in SCORING_DEFINITIONS and restart the workers; "
            "to add one: scoring models new NAME.",
        )
    folder = folders[name]
    digest = digest_source(folder)
    if what := _excluded.get((name, digest)):
        raise ModelError(
            f"the definition {name} {what} when it is imported, and is excluded on {socket.gethostname()}",
            next_step=f"Correct {folder / 'model.py'} or what it imports, and start the workers again. Try it with: "
            f"{_checking(name, folder)}",
        )
    _tried.add((name, digest))
    if folder.parent == PACKAGE_FOLDER and (packaged := _load_packaged(name)).source_sha256 == digest:
        return packaged
    return _load_outside(name, folder, digest)


def code_of(folder: Path) -> str:
    """Describes the files that the digest of a definition covers."""
    template = _template_of(folder)
    return f"a Python file in {folder}{'' if template is None else f', or {template}, which may be new there'}"


def is_tried(name: str, extra: Path | None = None) -> bool:
    """Returns True if this process imported this state of a definition, or tried to import it and survived."""
    return (name, digest_source(_find_folders(extra)[name])) in _tried


def exclude_definition(name: str, extra: Path | None, what: str) -> None:
    """Excludes this state of a definition from being imported in this process and its forks: it kills or hangs the importing process.

    ``what`` describes the failure, like ``kills its process (SIGABRT)``.
    """
    _excluded[name, digest_source(_find_folders(extra)[name])] = what


def excluded_definitions(extra: Path | None = None) -> dict[str, str]:
    """Returns the definitions that are excluded in this process in their current state, each with a description of the failure."""
    folders = _find_folders(extra)
    return {name: what for (name, digest), what in _excluded.items() if name in folders and digest_source(folders[name]) == digest}


def digest_source(folder: Path) -> str:
    """Returns the sha256 over the paths and contents of a folder's Python files, and of the definition's own template in the parent folder.

    Raises:
        ModelError: a file cannot be read.
    """
    whole = hashlib.sha256()
    for name, file in _python_files(folder):
        try:
            content = file.read_bytes()
        except OSError as error:
            _refuse_unreadable(folder, file, error)
        whole.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return whole.hexdigest()


def current_digest(name: str, extra: Path | None = None) -> tuple[str, Path] | None:
    """Returns the current digest of a definition's code, and its folder; None if the definition no longer exists.

    It stats each file, and reads the contents only if a file was changed since the last call.

    Raises:
        ModelError: a file cannot be read.
    """
    for parent in (PACKAGE_FOLDER, extra):
        if parent is not None and os.path.isfile(f"{parent}/{name}/model.py"):  # noqa: PTH113 - for each chunk, as above
            folder = (parent if parent is PACKAGE_FOLDER else parent.resolve()) / name
            return _digest_once(folder, _stamps(folder)), folder
    return None


@functools.lru_cache(maxsize=64)
def _digest_once(folder: Path, stamps: tuple[tuple[object, ...], ...]) -> str:
    del stamps  # part of the cache key: changed files have other stamps
    return digest_source(folder)


def _stamps(folder: Path) -> tuple[tuple[object, ...], ...]:
    """Returns values that change when a file of a definition changes, without reading the files."""
    try:
        stamps = [_stamp(entry.path, entry.stat()) for entry in _entries(str(folder))]
        template = _template_of(folder)
        return tuple(sorted(stamps if template is None else [*stamps, _stamp(str(template), template.stat())]))
    except OSError as error:
        _refuse_unreadable(folder, Path(error.filename or folder), error)


def _stamp(path: str, found: os.stat_result) -> tuple[object, ...]:
    return path, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _entries(folder: str) -> Iterator["os.DirEntry[str]"]:
    """Yields the Python files in a folder tree; pathlib takes five times as long, and this runs for each chunk."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry
            elif entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__":
                yield from _entries(entry.path)


def _python_files(folder: Path) -> list[tuple[str, Path]]:
    files = [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*.py"))]
    template = _template_of(folder)
    return files if template is None else [*files, (f"../{TEMPLATE}", template)]


def _refuse_unreadable(folder: Path, file: Path, error: OSError) -> NoReturn:
    raise ModelError(
        f"the code of the definition {folder.name} cannot be read: {file}: {error.strerror}",
        next_step="Make it readable for the workers, or remove it.",
    ) from error


def _template_of(folder: Path) -> Path | None:
    """Returns the definition's own template in its parent folder; our template belongs to no definition."""
    template = folder.parent / TEMPLATE
    return template if folder.parent != PACKAGE_FOLDER and template.is_file() else None


def _find_folders(extra: Path | None) -> dict[str, Path]:
    found = _folders_in(PACKAGE_FOLDER)
    if extra is None:
        return found
    if not extra.is_dir():
        raise ModelError(f"the folder of further definitions {extra} is not there", next_step="Name a folder that holds <name>/model.py.")
    further = _folders_in(extra.resolve())
    for name in sorted(found.keys() & further.keys() if extra.resolve() != PACKAGE_FOLDER else ()):
        raise ModelError(f"the definition {name} is both in {found[name]} and in {further[name]}", next_step="Rename one of the folders.")
    return found | further


def _folders_in(parent: Path) -> dict[str, Path]:
    return {file.parent.name: file.parent for file in parent.glob("*/model.py") if _NAME.fullmatch(file.parent.name)}


# cached for the life of the process, like Python's modules, so that the digest remains that of the running code
@functools.cache
def _load_packaged(name: str) -> Definition:
    folder = PACKAGE_FOLDER / name
    digest = digest_source(folder)
    module = _import(name, folder, lambda: importlib.import_module(f"{__package__}.{name}.model"))
    return _describe(name, folder, module, digest)


@functools.cache
def _load_outside(name: str, folder: Path, digest: str) -> Definition:
    package = f"{OUTSIDE}{name}_{digest[:12]}"
    try:
        module = _import(name, folder, lambda: _import_by_location(package, folder))
    except ModelError:
        for loaded in [module for module in sys.modules if module.partition(".")[0] == package]:
            del sys.modules[loaded]
        raise
    return _describe(name, folder, module, digest)


def _import(name: str, folder: Path, load: Callable[[], ModuleType]) -> ModuleType:
    importlib.invalidate_caches()  # a file may be newer than Python's cached listing of the folder
    try:
        with process_kept_as_it_is():
            return load()
    except SoftTimeLimitExceeded as error:
        raise DefinitionHungError(failure(name, folder, "its import", f"it hung, and was stopped in {place_of(error, folder)}")) from error
    except BaseException as error:  # foreign code may raise anything, SystemExit included
        if is_shutdown(error):
            raise
        problem = f"the definition {name} does not import: {_summary(error)} ({place_of(error, folder)})"
        if isinstance(error, FileNotFoundError) and error.filename == str(folder.parent / TEMPLATE):
            raise ModelError(problem, next_step=f"Put the template there: cp {PACKAGE_FOLDER / TEMPLATE} {folder.parent}/") from error
        lock = LOCKS.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None
        remedy = f"Type, for every worker: pip install --require-hashes -r {lock}" if lock else "Correct it or install what it needs"
        raise ModelError(problem, next_step=f"{remedy}, then try: {_checking(name, folder)}") from error


def _summary(error: BaseException) -> str:
    try:
        return " ".join(f"{type(error).__name__}: {error}".split())
    except Exception:  # noqa: BLE001 - even its text is foreign code
        return describe(error)


class _FromSource(SourceFileLoader):
    """Compiles a module from its source each time: Python accepts stale bytecode of a source with the same size and second."""

    def path_stats(self, path: Any) -> Any:  # noqa: ANN401 - as the base class
        raise OSError(f"no cached bytecode is used for {path}")


class _DefinitionFinder(MetaPathFinder):
    """Finds the modules of definitions, and has them compiled from their source."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        packaged = top == __package__ and rest and (PACKAGE_FOLDER / rest.partition(".")[0] / "model.py").is_file()
        if not packaged and not top.startswith(OUTSIDE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _FromSource(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _DefinitionFinder())


def _checking(name: str, folder: Path) -> str:
    """Returns the command that checks a definition; for one outside this folder with the variable that the command needs to find it."""
    elsewhere = "" if folder.parent == PACKAGE_FOLDER else f" (with SCORING_DEFINITIONS={folder.parent})"
    return f"scoring models check {name}{elsewhere}"


def _import_by_location(package: str, folder: Path) -> ModuleType:
    """Executes ``model.py`` as a module of a package made for its folder, so that it can import the files beside it."""
    init = folder / "__init__.py"
    _execute(package, init if init.exists() else None, folder)
    return _execute(f"{package}.model", folder / "model.py", None)


def _execute(name: str, file: Path | None, package_folder: Path | None) -> ModuleType:
    if file is None:
        module = ModuleType(name)
        module.__path__ = [str(package_folder)]
        sys.modules[name] = module
        return module
    search = None if package_folder is None else [str(package_folder)]
    loader = _FromSource(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _describe(name: str, folder: Path, module: ModuleType, digest: str) -> Definition:
    model_class = getattr(module, "Model", None)
    file = folder / "model.py"
    if not isinstance(model_class, type):
        raise ModelError(f"the definition {name} has no class Model in {file}", next_step="Derive one from model_template.Model.")
    abstract: frozenset[str] = getattr(model_class, "__abstractmethods__", frozenset())
    missing = [method for method in METHODS if method in abstract or not callable(getattr(model_class, method, None))]
    if missing:
        raise ModelError(
            f"the class Model of the definition {name} lacks {', '.join(missing)}", next_step=f"Write what is missing in {file}."
        )
    with calling(name, folder, "its class Model"):
        keys, columns, text = (_names(model_class, attribute, default) for attribute, default in NAMED)
        model_file = getattr(model_class, "MODEL_FILE", model_template.Model.MODEL_FILE)
    if wrong := _wrong_columns(keys or (), columns, text or ()) or _wrong_file(model_file):
        raise ModelError(f"the class Model of the definition {name} {wrong}", next_step=f"Correct it in {file}.")
    return Definition(
        name=name,
        folder=folder,
        model_class=model_class,
        data_preparation=getattr(module, "data_preparation", model_template.data_preparation),
        source_sha256=digest,
        keys=keys or (),
        columns=columns,
        text=text or (),
        model_file=model_file,
    )


def _names(model_class: type[Any], attribute: str, default: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Returns the names in an attribute of a definition's class; a str is an error instead of a sequence of letters."""
    given = getattr(model_class, attribute, default)
    if isinstance(given, str):
        raise TypeError(f"{attribute} must be a tuple of names: write ({given!r},)")
    return None if given is None else tuple(given)


def _wrong_file(name: object) -> str:
    """Returns why this cannot be the name of a model file; empty if it can."""
    is_plain = isinstance(name, str) and re.fullmatch(r"[^/\\\0]{1,200}", name) and name not in (".", "..")
    return "" if is_plain else f"has a MODEL_FILE that is not the name of a file: {name!r}"


def _wrong_columns(keys: tuple[str, ...], columns: Sequence[str] | None, text: tuple[str, ...]) -> str:
    """Returns what is wrong with the columns that a class names; empty if nothing is."""
    if not keys or len(set(keys)) < len(keys) or not all(isinstance(key, str) and key for key in keys):
        return f"has KEYS that are not one or more different names: {keys!r}"
    if taken := sorted(NO_KEYS & set(keys)):
        return f"has {taken[0]} among its KEYS, which means something else in a table"
    if columns is not None and (lacking := [name for name in text if name not in columns]):
        return f"has {lacking[0]} in TEXT but not in COLUMNS"
    if both := [name for name in columns or () if name in keys and name not in text]:
        return f"has {both[0]} in KEYS and in COLUMNS: a key that is a feature too must be text, and named in TEXT"
    return ""
