"""The device categories of the platforms."""

import pyarrow as pa
import pyarrow.compute as pc

_NAMES = {
    "Computer": """
        computer, computers, desktop, desktops, desktop computers, pc, laptop, desktops & laptops, desktop and laptop
        ordinateur, ordinateurs, ordenador, ordenadores, computadora, computadoras, computadoras de escritorio
    """,
    "Smartphone": """
        smartphone, smartphones, mobile, mobiles, mobile phone, mobile phones, mobile devices with full browsers, mobile device, phone
        phones, high-end mobile, mobile_web, mobile_app, mobile app, mobile web, iphone, android_smartphone, android smartphone
        mobiltelefon, mobiltelefone, mobilgeräte, mobilgeräte mit vollwertigem internetbrowser, handy, handys
        téléphone mobile, téléphones mobiles, mobiles dotés d'un navigateur internet complet
        móvil, móviles, teléfono móvil, teléfonos móviles, celular, celulares
        dispositivos móviles con navegadores de internet completos
    """,
    "Tablet": """
        tablet, tablets, tablets with full browsers, ipad, android_tablet, android tablet, tablette, tablettes, tableta, tabletas
        tablets mit vollwertigem internetbrowser, tablettes dotées d'un navigateur internet complet
        tabletas con navegadores de internet completos
    """,
    "TV": """
        tv, tv screen, tv screens, connected tv, connected_tv, television, fernsehbildschirme, fernseher, tv-bildschirme
        écrans tv, écrans de télévision, téléviseurs connectés, pantallas de tv, pantallas de televisión, televisor, televisores
    """,
    "Other": "other, others, other devices, unknown, sonstige, andere, unbekannt, autre, autres, inconnu, otro, otros, desconocido",
}
_CATEGORIES = {name.strip(): category for category, text in _NAMES.items() for line in text.splitlines() for name in line.split(",")}
_CATEGORIES.pop("", None)
_SPECIFIC = {name for name, category in _CATEGORIES.items() if category != "Other"}


def category_of(device: str) -> str:
    """Returns the device category of a platform's name, or the name itself if it is unknown."""
    return _CATEGORIES.get(device.strip().casefold().replace("’", "'"), device)


def are_devices(values: pa.ChunkedArray) -> bool:
    """Returns True if every distinct value is the name of a device, and one is not just ``other``."""
    distinct = [value.strip().casefold() for value in pc.unique(values).to_pylist() if value is not None]
    return all(value in _CATEGORIES for value in distinct) and any(value in _SPECIFIC for value in distinct)


def as_categories(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replaces the names of devices by their categories."""
    distinct = pc.unique(values)
    by_place = pa.array([None if value is None else category_of(value) for value in distinct.to_pylist()], pa.string())
    return pa.chunked_array([by_place.take(pc.index_in(chunk, distinct)) for chunk in values.chunks], pa.string())
