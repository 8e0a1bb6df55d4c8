"""What keys and names are made of: each part counts, and none stands in for another."""

from secrets import token_bytes, token_hex

import pytest

from azure_auth.auth.sessions.sealing import Seal, SealBroken, SessionKeys, stranger_key, tab_id, tab_prefix, ticket_of

REFERENCE, DATA_KEY = token_hex(16), token_bytes(32)
TOKEN = "0b7a8c56-41cf-4d5e-9c1b-5f6a7e8d9c0a"
OTHERS = [TOKEN[:-1] + "b", "c" + TOKEN[1:], TOKEN[:8], TOKEN.upper(), ""]
"""Other client tokens, some of which begin or end alike."""


@pytest.mark.parametrize("other", OTHERS)
def test_each_tab_has_a_key_of_its_own(other):
    """Another client token, however much alike, is another key, of a session and of a stranger."""
    keys = SessionKeys(REFERENCE, DATA_KEY)
    assert keys.tab_key(TOKEN) == SessionKeys(REFERENCE, DATA_KEY).tab_key(TOKEN) != keys.tab_key(other)
    assert stranger_key(TOKEN, "browser") == stranger_key(TOKEN, "browser") != stranger_key(other, "browser")


def test_nobody_computes_the_key_of_a_tab_without_the_data_key():
    """Who knows a session's reference and a tab's client token, both of which are public, has not its key."""
    ours, theirs = (SessionKeys(REFERENCE, data_key).tab_key(TOKEN) for data_key in (DATA_KEY, token_bytes(32)))
    assert ours != theirs
    assert ours.startswith(tab_prefix(REFERENCE))
    assert len(ours.removeprefix(tab_prefix(REFERENCE))) == 48  # 192 bits


def test_tabs_of_two_sessions_have_two_prefixes():
    """What is ended by its prefix is one session's; no session has that of strangers."""
    keys = [SessionKeys(token_hex(16), DATA_KEY).tab_key(TOKEN) for _ in range(100)]
    prefixes = {key[:16] for key in [*keys, stranger_key(TOKEN, "browser")]}
    assert len(prefixes) == 101


def test_parts_do_not_run_into_each_other():
    """A browser's name and a client token that begin elsewhere are other ones."""
    assert stranger_key("bc", "a") != stranger_key("c", "ab")
    assert ticket_of("state", "binding") != ticket_of("stateb", "inding")


def test_the_id_of_a_tab_does_not_tell_its_token():
    """It is shown in addresses; the client token, from which the key of a stranger's state is made, is not in it."""
    assert TOKEN not in tab_id(TOKEN)
    assert len({tab_id(token) for token in [TOKEN, *OTHERS]}) == 1 + len(OTHERS)


@pytest.mark.parametrize("changed", ["state", "binding"])
def test_a_ticket_is_of_its_flow_and_its_browser(changed):
    """Who knows only the state, which was in addresses, or only a cookie, has not the secret part of the ticket."""
    parts = {"state": "the state", "binding": "the binding"}
    ours, theirs = (ticket_of(**of)[12:] for of in (parts, {**parts, changed: "another"}))
    assert ours != theirs
    assert len(ours) == 43


@pytest.mark.parametrize("changed", ["kind", "name", "secret"])
def test_a_seal_opens_its_own_record_alone(changed):
    """Not one of another kind, nor that of another name, nor under another secret, with all else the same."""
    parts = {"kind": "session", "name": "a", "secret": DATA_KEY}
    other = {"kind": "handle", "name": "b", "secret": token_bytes(32)}[changed]
    sealed = Seal(**parts).seal(b"record")
    assert Seal(**parts).open(sealed) == b"record"
    with pytest.raises(SealBroken):
        Seal(**{**parts, changed: other}).open(sealed)


def test_one_secret_has_a_name_for_each_kind():
    """Two records of one secret cannot be told to belong together."""
    assert len({Seal.of(kind, "secret").name for kind in ("flow", "ticket", "handle", "join")}) == 4


def test_no_nonce_is_used_twice():
    """The same record, sealed again, is another ciphertext: AES-GCM is broken where one key has a nonce twice."""
    seal = Seal("session", REFERENCE, DATA_KEY)
    sealed = [seal.seal(b"record") for _ in range(100)]
    assert len({one[:12] for one in sealed}) == 100
    assert {seal.open(one) for one in sealed} == {b"record"}
