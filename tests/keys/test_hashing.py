import pytest

from keys.hashing import KEY_PATTERN, checksum, digest, is_well_formed, make_key


@pytest.mark.parametrize("kind", ["live", "test", "owner"])
def test_made_keys_have_the_published_form(kind: str) -> None:
    key = make_key(kind)
    assert KEY_PATTERN.fullmatch(key)
    assert key.startswith(f"fb_{kind}_")
    assert is_well_formed(key)


def test_a_hundred_thousand_keys_differ_and_all_fit() -> None:
    keys = [make_key("live") for _ in range(100_000)]
    assert len(set(keys)) == len(keys)
    assert all(is_well_formed(key) for key in keys)


def test_a_changed_character_is_noticed() -> None:
    key = make_key("live")
    for place in range(len("fb_live_"), len(key)):
        other = "A" if key[place] != "A" else "B"
        assert not is_well_formed(key[:place] + other + key[place + 1 :])


@pytest.mark.parametrize(
    "text", ["", "fb_live_", "sk_live_" + "a" * 38, "fb_live_" + "a" * 37 + "\n", "é" * 46]
)
def test_other_texts_are_no_keys(text: str) -> None:
    assert not is_well_formed(text)


def test_the_checksum_is_crc_32_in_base_62() -> None:
    assert checksum("fb_live_" + "0" * 32) == checksum("fb_live_" + "0" * 32)
    assert len(checksum("x")) == 6
    assert checksum("") == "000000"  # CRC-32 of nothing is 0


def test_the_digest_is_sha_256() -> None:
    assert digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
