"""Recognizes workbooks by their first bytes, and refuses what only looks like an export."""

import io
import zipfile

from shared.errors import TableError

MOST_UNPACKED_BYTES = 1 << 30
"""What the parts of an xlsx workbook may unpack to."""
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""The part of an xlsx workbook with a password."""
_OTHERS = {
    b"\x1f\x8b": ("is compressed with gzip", "Unpack it: gunzip FILE."),
    b"\x28\xb5\x2f\xfd": ("is compressed with Zstandard", "Unpack it: unzstd FILE."),
    b"PAR1": ("is a Parquet file, which no platform exports", "Give it to the other commands as it is; its name ends in .parquet."),
    b"%PDF": ("is a PDF file", "Export the report as csv or xlsx."),
}
_WEB_PAGES = (b"<!doctype html", b"<html", b"<table", b"<?xml", b"<div", b"<meta")


def is_workbook(data: bytes) -> bool:
    """Returns True for the bytes of an xlsx or xls workbook, or another zip archive or compound file."""
    return data.startswith((_ZIP, _OLE))


def refuse_other_formats(data: bytes, path: str) -> None:
    """Raises TableError for a file that is neither text nor workbook."""
    for begin, (what, next_step) in _OTHERS.items():
        if data.startswith(begin):
            raise TableError(f"{path} {what}", next_step=next_step)
    if data[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGES):
        raise TableError(f"{path} is a web page or XML, whatever its name", next_step="Open it in Excel and save it as xlsx or CSV UTF-8.")


def check_workbook(data: bytes, path: str) -> None:
    """Raises TableError for a workbook with a password, for an archive that is none, and for one that unpacks to too much."""
    if data.startswith(_OLE):
        if _ENCRYPTED in data:
            raise password_error(path)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise damaged_error(path, str(error)) from None
    if not any(part.filename.lower().startswith("xl/workbook.") for part in parts):
        raise TableError(f"{path} is a zip archive, not a workbook", next_step="Unpack it, and give the file inside it.")
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MOST_UNPACKED_BYTES:
        raise TableError(
            f"{path} unpacks to {unpacked >> 20:,} MB, more than the {MOST_UNPACKED_BYTES >> 20:,} MB that a workbook may hold",
            next_step="Export the report as csv.",
        )


def password_error(path: str) -> TableError:
    """The error for a workbook with a password."""
    return TableError(f"{path} is protected by a password", next_step="Save it without a password, or export the report as csv.")


def damaged_error(path: str, reason: str) -> TableError:
    """The error for a workbook that cannot be read."""
    return TableError(f"{path} is a damaged workbook: {reason}", next_step="Export it again, or copy it again whole.")
