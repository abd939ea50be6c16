"""Describes the tables of a release for people: rows left out, conversions cut, and doubts about the figures."""

from shared.catalog.manifests import ReleaseManifest, TableAudit, TableFingerprint


def doubts(manifest: ReleaseManifest) -> dict[str, str]:
    """Facts by name, the most important first; empty when nothing was left out and nothing is doubtful."""
    facts = {}
    if manifest.forced:
        facts["forced"] = manifest.forced_in_words
    if manifest.warnings:
        facts["warning"] = "; ".join(manifest.warnings)
    for name, audit in manifest.audits.items():
        table = manifest.tables.get(name)
        if table is not None:
            facts |= _left_out(name, audit, table) | _cut(name, audit)
        if audit.repeated_rows:
            rows = "1 row has" if audit.repeated_rows == 1 else f"{audit.repeated_rows:,} rows have"
            facts[f"keys twice in {name}"] = f"{rows} the keys, and the week, of a row before them"
    return facts


def _left_out(name: str, audit: TableAudit, table: TableFingerprint) -> dict[str, str]:
    if not table.rejected:
        return {}
    share = f" with {audit.left_out_share:.1%} of the clicks" if audit.has_clicks else ""
    totals = f"; {len(audit.totals)} of them a row of totals" if audit.totals else ""
    words = f"{table.rejected:,} of {table.rows + table.rejected:,}{share}{totals}: {'; '.join(audit.first_left_out)}"
    return {f"rows left out of {name}": words}


def _cut(name: str, audit: TableAudit) -> dict[str, str]:
    if not audit.above_rows:
        return {}
    first = f"; the first: {audit.first_above}" if audit.first_above else ""
    share = audit.conversions_cut / audit.stated_conversions
    unclicked = f", {audit.unclicked_conversions:,.10g} of them in rows without clicks" if audit.unclicked_rows else ""
    rows = "1 row" if audit.above_rows == 1 else f"{audit.above_rows:,} rows"
    words = (
        f"{audit.conversions_cut:,.10g} of {audit.stated_conversions:,.10g} ({share:.2%}){unclicked}, in {rows} "
        f"with more conversions than clicks ({audit.above_share:.2%} of the clicks){first}"
    )
    return {f"conversions cut in {name}": words}
