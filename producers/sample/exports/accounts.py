"""A made-up account: search terms with clicks and conversions, drawn from known rates."""

from dataclasses import dataclass

import numpy as np

from producers.sample.hashing import Floats, Integers, hashed, hashed_normal
from producers.sample.rows import binomial_quantile

CAMPAIGNS = ("Shoes", "Hiking", "Kids & Teens", "Résumé sale", "Brand", "Garden", "Office, home")
GROUPS_OF_A_CAMPAIGN = 4
_PLACES = (
    "near me",
    "online",
    "münchen",
    "paris",
    "málaga",
    "24h",
    "cheap",
    "best",
    "used",
    "for men",
    "for women",
    "size 44",
    "xl",
    "black",
    "2 pack",
)
_THINGS = (
    "running shoes",
    "boots",
    "tent",
    "desk lamp",
    "school bag",
    "sandals",
    "n/a cap",
    "rain coat",
    "chair",
    "bike lock",
    "tulips",
    "monitor arm",
)
MATCH_TYPES, DEVICES = 3, 4
"""Exact, phrase, broad; computers, mobile phones, tablets, TV screens."""
_BASE_LOG_ODDS = -2.6
_HIGHEST_CR, _MOST_CLICKS = 0.3, 1_900
"""``binomial_quantile`` is exact up to here."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The rows of a report, one for each search term, match type and device."""

    term: list[str]
    campaign: list[str]
    ad_group: list[str]
    match_type: Integers
    device: Integers
    impressions: Integers
    clicks: Integers
    conversions: Integers
    cost_cents: Integers
    value_cents: Integers
    share: Floats
    """The impression share, 0 to 1."""
    cr: Floats
    """The true conversion rate."""


def make_account(rows: int, seed: int) -> Account:
    """Makes the rows of an account; equal seeds give equal accounts, and a shorter one is the beginning of a longer one."""
    number = np.arange(rows, dtype=np.int64)
    term = number // 2
    place = _choice(seed, "place", term, len(_PLACES))
    thing = _choice(seed, "thing", term, len(_THINGS))
    campaign = thing % len(CAMPAIGNS)
    group = _choice(seed, "group", term, GROUPS_OF_A_CAMPAIGN)
    match_type = _choice(seed, "match type", term, MATCH_TYPES)
    device = (_choice(seed, "device", term, DEVICES) + number % 2) % DEVICES
    log_odds = _BASE_LOG_ODDS + sum(
        size * hashed_normal(seed, f"{name} effect", of)
        for name, of, size in (
            ("place", place, 0.5),
            ("thing", thing, 0.5),
            ("campaign", campaign, 0.3),
            ("device", device, 0.3),
            ("term", term, 0.25),
        )
    )
    cr = np.minimum(1 / (1 + np.exp(-log_odds)), _HIGHEST_CR)
    clicks = np.minimum(np.floor(np.exp(1.6 * np.abs(hashed_normal(seed, "clicks", number))) - 0.7), _MOST_CLICKS).astype(np.int64)
    impressions = clicks * 10 + np.floor(400 * hashed(seed, "impressions", number)).astype(np.int64) + 1
    conversions = binomial_quantile(hashed(seed, "conversions", number), clicks, cr)
    cost_cents = np.rint(clicks * (20 + 180 * hashed(seed, "price", number))).astype(np.int64)
    return Account(
        term=[f"{_THINGS[one]} {_PLACES[other]} {last}" for one, other, last in zip(thing, place, term, strict=True)],
        campaign=[CAMPAIGNS[one] for one in campaign],
        ad_group=[f"{CAMPAIGNS[one]} - {other + 1}" for one, other in zip(campaign, group, strict=True)],
        match_type=match_type,
        device=device,
        impressions=impressions,
        clicks=clicks,
        conversions=conversions,
        cost_cents=cost_cents,
        value_cents=conversions * 2_995,
        share=hashed(seed, "impression share", number),
        cr=cr,
    )


def _choice(seed: int, name: str, numbers: Integers, count: int) -> Integers:
    return np.floor(count * hashed(seed, name, numbers) ** 1.5).astype(np.int64)
