"""What the platforms call their columns: Google Ads, Microsoft Ads, Amazon Ads and Meta, in English, German, French and Spanish."""

import re
import unicodedata
from enum import StrEnum


class Concept(StrEnum):
    """The meaning of a column with a known name."""

    KEYWORD = "keyword"
    SEARCH_TERM = "search term"
    MATCH_TYPE = "match type"
    CAMPAIGN = "campaign"
    AD_GROUP = "ad group"
    GROUP = "group"
    """Another level of the account."""
    DEVICE = "device"
    CATEGORY = "category"
    CLICKS = "clicks"
    CONVERSIONS = "conversions"
    IMPRESSIONS = "impressions"
    COST = "cost"
    COUNT = "count"
    """Another number that a row of totals sums up."""
    NUMBER = "number"
    OUTCOME_COUNT = "outcome count"
    """A count that is known only with the conversions, such as orders of another window; a row of totals sums it up."""
    OUTCOME = "outcome"
    """A rate or value that is known only with the conversions."""
    ID = "id"
    TEXT = "text"
    IGNORED = "ignored"
    """Says nothing about a click: the currency, a date, a status."""


COUNTS = frozenset({Concept.CLICKS, Concept.IMPRESSIONS})
"""Whole numbers."""
ADDITIVE = COUNTS | {Concept.CONVERSIONS, Concept.COST, Concept.COUNT, Concept.OUTCOME_COUNT}
"""What a row of totals sums up."""
NUMBERS = ADDITIVE | {Concept.NUMBER, Concept.OUTCOME}
LEAKS = frozenset({Concept.OUTCOME, Concept.OUTCOME_COUNT})

_NAMES: dict[Concept, str] = {
    Concept.SEARCH_TERM: """
        search term | search terms | search query | query | customer search term | matched search term
        suchbegriff | suchbegriffe | suchanfrage | suchbegriff des kunden | kundensuchbegriff
        terme de recherche | termes de recherche | requete de recherche | terme de recherche du client | requete
        termino de busqueda | terminos de busqueda | consulta de busqueda | termino de busqueda del cliente | consulta
    """,
    Concept.KEYWORD: """
        keyword | keywords | search keyword | keyword text | keyword/placement | targeting | keyword or product targeting
        suchkeyword | keyword-text | schlusselwort | suchwort | ausrichtung | targeting-ausdruck
        mot cle | mots cles | mot-cle | mots-cles | mot cle pour le reseau de recherche | ciblage
        palabra clave | palabras clave | palabra clave de la red de busqueda | segmentacion
    """,
    Concept.MATCH_TYPE: """
        match type | keyword match type | search keyword match type | delivered match type | bid match type | search terms match type
        keyword-option | ubereinstimmungstyp | ubereinstimmungstyp des keywords | keyword-ubereinstimmungstyp | match-typ
        type de correspondance | type de correspondance du mot cle | type de ciblage par mots cles
        tipo de concordancia | tipo de coincidencia | tipo de concordancia de la palabra clave
    """,
    Concept.CAMPAIGN: """
        campaign | campaign name | kampagne | kampagnenname | name der kampagne
        campagne | nom de la campagne | nom de campagne | campana | nombre de la campana | nombre de campana
    """,
    Concept.AD_GROUP: """
        ad group | ad group name | ad set | ad set name | adgroup | adset name
        anzeigengruppe | anzeigengruppenname | name der anzeigengruppe | anzeigengruppe (name)
        groupe d'annonces | nom du groupe d'annonces | ensemble de publicites | nom de l'ensemble de publicites
        grupo de anuncios | nombre del grupo de anuncios | conjunto de anuncios | nombre del conjunto de anuncios
    """,
    Concept.GROUP: """
        account | account name | portfolio name | ad name | kontoname | konto | portfolioname | name der anzeige | anzeigenname
        compte | nom du compte | nom du portefeuille | nom de la publicite | cuenta | nombre de la cuenta | nombre del portafolio
        nombre de la cartera | nombre del anuncio
    """,
    Concept.DEVICE: """
        device | device type | device platform | impression device | platform | gerat | geratetyp | gerate | impressionsgerat
        appareil | type d'appareil | appareils | dispositivo | tipo de dispositivo | dispositivos
    """,
    Concept.CATEGORY: """
        network | network (with search partners) | top vs. other | placement | placement type | ad distribution | language | campaign type
        country | country/territory | region | gender | age | added/excluded | keyword status
        netzwerk | netzwerk (mit suchnetzwerk-partnern) | platzierung | sprache | kampagnentyp | land | region | geschlecht | alter
        hinzugefugt/ausgeschlossen | reseau | emplacement | langue | type de campagne | pays | sexe | ajoute/exclu | red | ubicacion
        idioma | tipo de campana | pais | sexo | edad | anadido/excluido | anadida/excluida
    """,
    Concept.CLICKS: """
        clicks | link clicks | clicks (all) | klicks | linkklicks | link-klicks | klicks (alle)
        clics | clics sur un lien | clics (tous) | clics en el enlace | clics (todos) | clicks (todos)
    """,
    Concept.CONVERSIONS: """
        conversions | conv | 7 day total orders | 14 day total orders | 30 day total orders | 1 day total orders | orders | purchases
        website purchases | results | bookings
        konversionen | conversions | bestellungen gesamt in 7 tagen | 7 tage bestellungen gesamt | bestellungen
        gesamtbestellungen (7 tage)
        kaufe | ergebnisse | buchungen
        total des commandes sur 7 jours | total des commandes (7 jours) | commandes | achats | resultats | reservations
        conversiones | pedidos totales de 7 dias | total de pedidos de 7 dias | pedidos | compras | resultados | reservas
    """,
    Concept.IMPRESSIONS: """
        impressions | impr | impressionen | sichtbare impressionen | impresiones | affichages
    """,
    Concept.COST: """
        cost | spend | amount spent | ad spend | kosten | ausgaben | ausgegebener betrag | werbeausgaben
        cout | couts | depenses | depense | montant depense | coste | costo | gasto | gastos | importe gastado | inversion
    """,
    Concept.COUNT: """
        interactions | interaktionen | interacciones | reach | reichweite | couverture | alcance | invalid clicks | engagements
    """,
    Concept.NUMBER: """
        ctr | click-through rate | click-thru rate | click-thru rate (ctr) | ctr (all) | ctr (link click-through rate) | interaction rate
        klickrate | klickrate (ctr) | interaktionsrate | taux de clics | taux de clics (ctr) | ctr (taux de clics) | taux d'interaction
        porcentaje de clics | tasa de clics | tasa de clics (ctr) | ctr (tasa de clics) | tasa de interaccion
        avg cpc | average cpc | cpc | cost per click | cost per click (cpc) | cpc (cost per link click) | avg cost | average cost
        durchschn cpc | durchschnittlicher cpc | kosten pro klick | kosten pro klick (cpc) | durchschn kosten
        cpc moy | cpc moyen | cout par clic | cout par clic (cpc) | cout moy
        cpc medio | cpc prom | coste por clic | coste por clic (cpc) | costo por clic (cpc) | coste medio | costo prom
        cpm | cpm (cost per 1,000 impressions) | avg cpm | frequency | haufigkeit | repetition | frecuencia
        max cpc | bid | keyword bid | gebot | enchere | puja | quality score | qualitatsfaktor | niveau de qualite | nivel de calidad
        avg position | average position | durchschn position | position moyenne | posicion media
        search impr share | search impression share | impr share | impression share | impression share (%) | search lost is (rank)
        search exact match is | search top is | search abs top is | impr (top) % | impr (abs top) % | click share | top impression share
        anteil an moglichen impressionen im suchnetzwerk | anteil an moglichen impressionen | anteil an impressionen
        taux d'impr sur le reseau de recherche | taux d'impressions | cuota impr de busqueda | cuota de impresiones
        porcentaje de impr de busqueda
    """,
    Concept.OUTCOME_COUNT: """
        all conv | all conversions | view-through conv | view-through conversions | conv value | conversion value | conversions value
        all conv value | total conv value | revenue | sales | purchases conversion value | cross-device conv
        7 day total sales | 14 day total sales | 7 day total units | 14 day total units | 7 day advertised sku units | 7 day other sku units
        7 day advertised sku sales | 7 day other sku sales | assists
        alle conv | alle conversions | conversion-wert | conv-wert | wert der conversions | umsatz | view-through-conversions
        gesamtumsatz in 7 tagen | 7 tage gesamtumsatz | umsatz gesamt in 7 tagen | 7 tage einheiten gesamt | einheiten gesamt in 7 tagen
        toutes les conv | valeur de conv | valeur de conversion | valeur conv | chiffre d'affaires | revenus | conv apres affichage
        ventes totales sur 7 jours | total des ventes sur 7 jours | total des unites sur 7 jours | unites totales sur 7 jours
        todas las conv | valor de conv | valor de conversion | valor conv | ingresos | ventas | conv post-impresion
        ventas totales de 7 dias | total de ventas de 7 dias | unidades totales de 7 dias | total de unidades de 7 dias
    """,
    Concept.OUTCOME: """
        conv rate | conversion rate | all conv rate | 7 day conversion rate | 14 day conversion rate | purchase rate
        cost / conv | cost/conv | cost per conversion | cost / all conv | cost per result | cost per purchase | cpa | cost per acquisition
        value / conv | conv value / cost | conv value/cost | all conv value / cost | value / all conv | conv value / click
        revenue per conversion | return on ad spend | return on ad spend (roas) | roas | acos
        total advertising cost of sales (acos) | advertising cost of sales (acos) | total return on advertising spend (roas)
        purchase roas (return on ad spend) | purchase roas
        conv-rate | conversion-rate | konversionsrate | 7 tage konversionsrate | konversionsrate in 7 tagen | kosten/conv | kosten / conv
        kosten pro conversion | kosten pro ergebnis | wert/conv | wert / conv | conv-wert/kosten | zugeschriebene umsatzkosten (acos)
        gesamte zugeschriebene umsatzkosten (acos) | gesamter return on advertising spend (roas) | werbekosten-umsatz-verhaltnis (acos)
        taux de conv | taux de conversion | taux de conversion sur 7 jours | cout/conv | cout / conv | cout par conversion
        cout par resultat | valeur/conv | valeur / conv | valeur de conv/cout | cout publicitaire de vente total (acos)
        rendement total des depenses publicitaires (roas) | retour sur les depenses publicitaires
        tasa de conv | porcentaje de conv | tasa de conversion | tasa de conversion de 7 dias | porcentaje de conversiones | coste/conv
        coste / conv | costo/conv | costo / conv | coste por conversion | costo por conversion | coste por resultado | valor/conv
        valor / conv | valor de conv/coste | coste publicitario de las ventas total (acos) | coste publicitario total de las ventas (acos)
        retorno total de la inversion publicitaria (roas) | retorno de la inversion publicitaria
    """,
    Concept.ID: """
        keyword id | campaign id | ad group id | account id | ad id | ad set id | customer id | account number | criterion id
        keyword-id | kampagnen-id | anzeigengruppen-id | konto-id | kundennummer | kundennr | id du mot cle | id de la campagne
        id campagne
        id du groupe d'annonces | id de palabra clave | id de la campana | id de campana | id del grupo de anuncios | id
    """,
    Concept.TEXT: """
        final url | landing page | destination url | headline | title | ad title | finale url | zielseite | titel | url finale
        page de destination | titre | url final | pagina de destino | titulo
    """,
    Concept.IGNORED: """
        currency | currency code | status | campaign status | ad group status | campaign state | keyword state | date | day | week | month
        start date | end date | reporting starts | reporting ends | time period | gregorian date | time zone | attribution setting
        wahrung | wahrungscode | keyword-status | kampagnenstatus | datum | tag | woche | monat | startdatum | enddatum | berichtsstart
        berichtsende | devise | code de devise | code devise | etat | statut | date de debut | date de fin | jour | semaine | mois
        debut des rapports | fin des rapports | moneda | divisa | codigo de moneda | estado | fecha | fecha de inicio
        fecha de finalizacion
        dia | semana | mes | inicio del informe | fin del informe
    """,
}
_UNIT = re.compile(r"\s*[(\[]\s*(?:[A-Z]{3}|[$€£¥#%]|US\$|all)\s*[)\]]\s*$")
"""What follows a name: a currency or the sign for a number."""
_SPACES = re.compile(r"\s+")


def _folded(name: str) -> str:
    """A name without case, accents, units, and dots of abbreviations."""
    plain = unicodedata.normalize("NFKD", _UNIT.sub("", name.replace("’", "'").replace("ß", "ss")))
    plain = "".join(char for char in plain if not unicodedata.combining(char)).casefold()
    return (
        _SPACES.sub(" ", plain.replace("\u2011", "-").replace(".-", "-").replace(".", " "))
        .strip(" :*#")
        .replace(" /", "/")
        .replace("/ ", "/")
    )


_CONCEPTS: dict[str, tuple[int, Concept]] = {}
for _concept, _text in _NAMES.items():
    for _rank, _known in enumerate(part for line in _text.strip().splitlines() for part in line.split("|")):
        _CONCEPTS.setdefault(_folded(_known), (_rank, _concept))


def concept_of(name: str) -> Concept | None:
    """Returns the meaning of a column by its name, or None."""
    found = _CONCEPTS.get(_folded(name))
    return found[1] if found else None


def rank_of(name: str) -> int:
    """Returns how usual a known name is for its meaning; the lowest comes first."""
    found = _CONCEPTS.get(_folded(name))
    return found[0] if found else len(_CONCEPTS)
