"""What the platforms write: names of columns, words, titles and totals, in four languages."""

from dataclasses import dataclass
from typing import Literal

Platform = Literal["google-ads", "microsoft-ads", "amazon-sp"]
Language = Literal["en", "de", "fr", "es"]

COLUMNS: dict[Platform, tuple[str, ...]] = {
    "google-ads": (
        "term", "match_type", "campaign", "ad_group", "device", "currency", "clicks", "impressions", "ctr", "cpc", "cost", "share",
        "conversions", "conversion_rate", "cost_per_conversion",
    ),
    "microsoft-ads": (
        "term", "campaign", "ad_group", "match_type", "device", "impressions", "clicks", "ctr", "cpc", "cost", "conversions",
        "conversion_rate", "value",
    ),
    "amazon-sp": (
        "date", "campaign", "ad_group", "keyword", "match_type", "term", "impressions", "clicks", "ctr", "cpc", "cost", "value", "acos",
        "conversions", "conversion_rate", "id",
    ),
}  # fmt: skip
"""The columns of a report, in its order, by the names that ``cells`` uses."""

NAMES: dict[Platform, dict[Language, tuple[str, ...]]] = {
    "google-ads": {
        "en": (
            "Search term", "Match type", "Campaign", "Ad group", "Device", "Currency code", "Clicks", "Impr.", "CTR", "Avg. CPC", "Cost",
            "Search impr. share", "Conversions", "Conv. rate", "Cost / conv.",
        ),
        "de": (
            "Suchbegriff", "Keyword-Option", "Kampagne", "Anzeigengruppe", "Gerät", "Währungscode", "Klicks", "Impr.", "CTR",
            "Durchschn. CPC", "Kosten", "Anteil an möglichen Impressionen im Suchnetzwerk", "Conversions", "Conv.-Rate", "Kosten/Conv.",
        ),
        "fr": (
            "Terme de recherche", "Type de correspondance", "Campagne", "Groupe d'annonces", "Appareil", "Code de devise", "Clics", "Impr.",
            "CTR", "CPC moy.", "Coût", "Taux d'impr. sur le Réseau de Recherche", "Conversions", "Taux de conv.", "Coût/conv.",
        ),
        "es": (
            "Término de búsqueda", "Tipo de concordancia", "Campaña", "Grupo de anuncios", "Dispositivo", "Código de moneda", "Clics",
            "Impr.", "CTR", "CPC medio", "Coste", "Cuota impr. de búsqueda", "Conversiones", "Tasa de conv.", "Coste/conv.",
        ),
    },
    "microsoft-ads": {
        "en": (
            "Search term", "Campaign name", "Ad group", "Delivered match type", "Device type", "Impressions", "Clicks", "CTR", "Avg. CPC",
            "Spend", "Conversions", "Conversion rate", "Revenue",
        ),
        "de": (
            "Suchbegriff", "Kampagnenname", "Anzeigengruppe", "Übereinstimmungstyp", "Gerätetyp", "Impressionen", "Klicks", "CTR",
            "Durchschn. CPC", "Ausgaben", "Konversionen", "Konversionsrate", "Umsatz",
        ),
        "fr": (
            "Terme de recherche", "Nom de la campagne", "Groupe d'annonces", "Type de correspondance", "Type d'appareil", "Impressions",
            "Clics", "CTR", "CPC moyen", "Dépenses", "Conversions", "Taux de conversion", "Revenus",
        ),
        "es": (
            "Término de búsqueda", "Nombre de la campaña", "Grupo de anuncios", "Tipo de coincidencia", "Tipo de dispositivo",
            "Impresiones", "Clics", "CTR", "CPC prom.", "Gasto", "Conversiones", "Tasa de conversión", "Ingresos",
        ),
    },
    "amazon-sp": {
        "en": (
            "Date", "Campaign Name", "Ad Group Name", "Targeting", "Match Type", "Customer Search Term", "Impressions", "Clicks",
            "Click-Thru Rate (CTR)", "Cost Per Click (CPC)", "Spend", "7 Day Total Sales ($)",
            "Total Advertising Cost of Sales (ACOS)", "7 Day Total Orders (#)", "7 Day Conversion Rate", "Campaign ID",
        ),
        "de": (
            "Datum", "Kampagnenname", "Anzeigengruppenname", "Ausrichtung", "Übereinstimmungstyp", "Suchbegriff des Kunden", "Impressionen",
            "Klicks", "Klickrate (CTR)", "Kosten pro Klick (CPC)", "Ausgaben", "7 Tage Gesamtumsatz (€)",
            "Zugeschriebene Umsatzkosten (ACOS)", "7 Tage Bestellungen gesamt (#)", "7 Tage Konversionsrate", "Kampagnen-ID",
        ),
        "fr": (
            "Date", "Nom de la campagne", "Nom du groupe d'annonces", "Ciblage", "Type de correspondance",
            "Terme de recherche du client", "Impressions", "Clics", "Taux de clics (CTR)", "Coût par clic (CPC)", "Dépense",
            "Total des ventes sur 7 jours (€)", "Coût publicitaire de vente total (ACOS)", "Total des commandes sur 7 jours (#)",
            "Taux de conversion sur 7 jours", "ID de la campagne",
        ),
        "es": (
            "Fecha", "Nombre de la campaña", "Nombre del grupo de anuncios", "Segmentación", "Tipo de coincidencia",
            "Término de búsqueda del cliente", "Impresiones", "Clics", "Tasa de clics (CTR)", "Coste por clic (CPC)", "Gasto",
            "Ventas totales de 7 días (€)", "Coste publicitario de las ventas total (ACOS)", "Pedidos totales de 7 días (#)",
            "Tasa de conversión de 7 días", "ID de campaña",
        ),
    },
}  # fmt: skip
MATCH_TYPES: dict[Language, tuple[str, str, str]] = {
    "en": ("Exact match", "Phrase match", "Broad match"),
    "de": ("Genau passend", "Passende Wortgruppe", "Weitgehend passend"),
    "fr": ("Mot clé exact", "Expression exacte", "Requête large"),
    "es": ("Concordancia exacta", "Concordancia de frase", "Concordancia amplia"),
}
DEVICES: dict[Language, tuple[str, str, str, str]] = {
    "en": ("Computers", "Mobile phones", "Tablets", "TV screens"),
    "de": ("Computer", "Mobiltelefone", "Tablets", "Fernsehbildschirme"),
    "fr": ("Ordinateurs", "Téléphones mobiles", "Tablettes", "Écrans TV"),
    "es": ("Ordenadores", "Teléfonos móviles", "Tablets", "Pantallas de TV"),
}
TITLES: dict[Platform, dict[Language, tuple[str, ...]]] = {
    "google-ads": {
        "en": ("Search terms report", "May 1, 2026 - May 31, 2026"),
        "de": ("Bericht zu Suchbegriffen", "1. Mai 2026 - 31. Mai 2026"),
        "fr": ("Rapport sur les termes de recherche", "1 mai 2026 - 31 mai 2026"),
        "es": ("Informe de términos de búsqueda", "1 de mayo de 2026 - 31 de mayo de 2026"),
    },
    "microsoft-ads": {
        "en": ("Report Name: Search terms", "Report Time: 5/1/2026 - 5/31/2026", "Rows: {rows}"),
        "de": ("Berichtsname: Suchbegriffe", "Berichtszeit: 01.05.2026 - 31.05.2026", "Zeilen: {rows}"),
        "fr": ("Nom du rapport : termes de recherche", "Période : 01/05/2026 - 31/05/2026", "Lignes : {rows}"),
        "es": ("Nombre del informe: términos de búsqueda", "Período: 01/05/2026 - 31/05/2026", "Filas: {rows}"),
    },
    "amazon-sp": {"en": (), "de": (), "fr": (), "es": ()},
}
TOTALS: dict[Language, tuple[str, str]] = {
    "en": ("Total: Search terms", "Total: Account"),
    "de": ("Gesamt: Suchbegriffe", "Gesamt: Konto"),
    "fr": ("Total : termes de recherche", "Total : compte"),
    "es": ("Total: términos de búsqueda", "Total: cuenta"),
}
"""The label of the total of the rows, and of one that counts more than the rows."""
FOOTER = "©2026 Microsoft Corporation. All rights reserved."


@dataclass(frozen=True, kw_only=True)
class NumberForm:
    """How a language writes numbers."""

    decimal: str
    thousands: str
    percent: str
    money: str


NUMBER_FORMS: dict[Language, NumberForm] = {
    "en": NumberForm(decimal=".", thousands=",", percent="%", money="${}"),
    "de": NumberForm(decimal=",", thousands=".", percent=" %", money="{} €"),
    "fr": NumberForm(decimal=",", thousands="\u202f", percent=" %", money="{} €"),
    "es": NumberForm(decimal=",", thousands=".", percent="%", money="{} €"),
}
