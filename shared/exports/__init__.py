"""Reads exports of advertising platforms, as the platform wrote them, into one table of texts and numbers.

``reading.read_export`` is the entrance. A text passes ``text`` (encoding, separator, records), a workbook passes ``workbooks``; both then
share ``headers``, ``values`` (one decimal mark for the file) and ``totals``. ``roles`` infers what each column is for.
"""
