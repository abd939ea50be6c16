"""A manifest is known by its signature as ours and unchanged, down to the last byte; the keys are good ones and never shown."""

import hashlib
import hmac
import json

import pytest

from shared.errors import SettingsError
from shared.settings import Settings, read_settings
from shared.signatures import NO_SIGNER, Signature, Signer

KEY, OTHER = "a key that is long enough", "another key that is long enough"
OURS, THEIRS = Signer((KEY.encode(),)), Signer((OTHER.encode(),))
TEXT = b'{\n "format": 1,\n "release": "v1@20261123T120000Z-abcdef",\n "seconds": 0.1\n}'
SIGNED = OURS.sign(TEXT)


# --- signing


def test_a_signature_is_one_more_field_and_the_hmac_of_all_that_is_before_it():
    body = TEXT.removesuffix(b"\n}")
    expected = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
    assert body + b',\n "signature": "' + expected.encode() + b'"\n}' == SIGNED
    assert json.loads(SIGNED) == {**json.loads(TEXT), "signature": expected}


def test_a_signature_is_known_by_who_has_the_key_and_by_nobody_else():
    assert OURS.check(SIGNED) is Signature.RIGHT
    assert THEIRS.check(SIGNED) is Signature.WRONG
    assert OURS.check(TEXT) is Signature.MISSING
    assert NO_SIGNER.check(SIGNED) is NO_SIGNER.check(TEXT) is Signature.UNCHECKED
    assert NO_SIGNER.sign(TEXT) == TEXT


def test_no_byte_can_be_changed_added_or_taken_away():
    changed = [SIGNED[:place] + bytes([SIGNED[place] ^ 1]) + SIGNED[place + 1 :] for place in range(len(SIGNED))]
    changed += [SIGNED[:place] + b" " + SIGNED[place:] for place in range(len(SIGNED) + 1)]
    changed += [SIGNED[:place] + SIGNED[place + 1 :] for place in range(len(SIGNED))]
    changed += [OURS.sign(SIGNED).replace(b"0.1", b"0.2"), SIGNED + SIGNED, b"", b"{}", SIGNED.replace(b"\n", b"\r\n")]
    assert [text for text in changed if OURS.check(text) is Signature.RIGHT] == []


def test_the_first_key_signs_and_every_key_is_known():
    both = Signer((*OURS.keys, *THEIRS.keys))
    assert both.sign(TEXT) == SIGNED
    assert both.check(SIGNED) is both.check(THEIRS.sign(TEXT)) is Signature.RIGHT
    assert THEIRS.check(both.sign(TEXT)) is Signature.WRONG


# --- the setting


def test_without_a_key_nothing_is_signed(monkeypatch):
    monkeypatch.delenv("SCORING_STORE_KEY", raising=False)
    assert read_settings().signer == NO_SIGNER
    monkeypatch.setenv("SCORING_STORE_KEY", "")
    assert read_settings().signer == NO_SIGNER


def test_several_keys_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("SCORING_STORE_KEY", f"{KEY}, {OTHER}")
    assert read_settings().signer == Signer((*OURS.keys, *THEIRS.keys))


@pytest.mark.parametrize("weak", ["secret-15-chars", f"{KEY},", f"{KEY},short", f",{KEY}", "                 x"])
def test_a_weak_key_is_refused_and_not_reported(monkeypatch, weak):
    monkeypatch.setenv("SCORING_STORE_KEY", weak)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert refused.value.message.startswith("the environment variable SCORING_STORE_KEY has a value that cannot be used: ")
    assert refused.value.message.endswith("every key must have at least 16 characters")
    assert weak not in str(refused.value)


def test_a_key_is_not_shown_by_what_holds_it():
    settings = Settings(store_key=KEY)
    shown = f"{settings!r} {settings} {settings.signer!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.signer.keys == OURS.keys
    assert KEY not in shown
