"""What `SESSION_SECRET` keys, and where the secret comes from."""

import stat
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from azure_auth.auth.server_keys import ServerKeys, kept_in
from azure_auth.errors import NotConfigured
from azure_auth.settings import Settings

OLD, NEW, THIRD = (word * 8 for word in (b"old!", b"new!", b"3rd!"))
GUID = "11111111-1111-1111-1111-111111111111"
REAL = {"AZURE_TENANT_ID": GUID, "AZURE_CLIENT_ID": GUID, "AZURE_CLIENT_SECRET": "s", "REFLEX_ENV_MODE": "prod"}
REDIS = {"REFLEX_REDIS_URL": "redis://localhost:6379"}


def test_hashes_are_keyed():
    """Without the secret nobody can compute whose hash it is, and the first of two secrets makes it."""
    both = ServerKeys(lambda: [NEW, OLD])
    hashed = both.all_hashed("person", "tid", "oid")
    assert hashed == [ServerKeys(lambda s=s: [s]).hashed("person", "tid", "oid") for s in (NEW, OLD)]
    assert hashed[0] == both.hashed("person", "tid", "oid")
    plain = {sha256(text).hexdigest() for text in (b"tid\0oid", b"person\0tid\0oid", b"tidoid")}
    others = {both.hashed("sid", "tid", "oid"), both.hashed("person", "oid", "tid")}
    assert len({*hashed, *plain, *others}) == 2 + len(plain) + len(others)


def test_messages_are_proven_by_either_secret():
    """What another process signed with the old one is heard; a stranger's is not."""
    both, message = ServerKeys(lambda: [NEW, OLD]), b"a message"
    for secret, proven in ((OLD, True), (NEW, True), (THIRD, False)):
        assert both.proves(ServerKeys(lambda s=secret: [s]).proof(message), message) is proven
    assert not both.proves(both.proof(message), b"another message")
    assert not both.proves(b"", message)


def test_the_secret_is_read_on_first_use_alone():
    """Importing and composing the app touch no file."""
    read: list[int] = []
    keys = ServerKeys(lambda: read.append(1) or [NEW])
    assert read == []
    keys.hashed("a")
    keys.new_name()
    assert read == [1]


def test_one_process_makes_a_secret_of_its_own(tmp_path):
    """Random, for its owner alone, and the same for all who make it at the same moment."""
    file = tmp_path / "secret/session"
    with ThreadPoolExecutor(8) as threads:
        made = {tuple(secrets) for secrets in threads.map(kept_in, [file] * 40)}
    assert len(made) == 1
    assert len(kept_in(file)[0]) == 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["session"]
    assert kept_in(tmp_path / "another") != kept_in(file)


@pytest.mark.parametrize(
    ("value", "secrets"),
    [("a" * 32, 1), (f"{'a' * 32} {'b' * 32}", 2), (f"{'a' * 32},{'b' * 40}", 2), (" " + "a" * 32 + "\n", 1)],
)
def test_a_secret_or_two_are_read(value, secrets):
    """Between commas or spaces, the new one first."""
    read = Settings.load({**REAL, "SESSION_SECRET": value}).session_secrets
    assert len(read) == secrets
    assert read[0] == b"a" * 32


@pytest.mark.parametrize("value", ["short", f"{'a' * 32} short", " ".join(["a" * 32] * 3), ","])
def test_a_poor_secret_stops_the_start(value):
    """Too short, or too many; the fault names the setting and not its value."""
    with pytest.raises(NotConfigured) as stopped:
        Settings.load({**REAL, "SESSION_SECRET": value})
    (fault,) = stopped.value.faults
    assert fault.startswith("SESSION_SECRET is not one value or two")
    assert value not in fault or value == ","


def test_where_the_secret_comes_from(tmp_path):
    """Given, it counts; on Redis the credential stands in for it, and with a federated token nothing does."""
    assert Settings.load(REAL).session_secrets == ()
    assert Settings.load({**REAL, **REDIS, "SESSION_SECRET": "a" * 32}).session_secrets == (b"a" * 32,)
    derived = [Settings.load({**REAL, **REDIS, "AZURE_CLIENT_SECRET": s}).session_secrets for s in ("s", "s", "t")]
    assert derived[0] == derived[1] != derived[2]
    assert b"s" not in derived[0]
    token = tmp_path / "token"
    token.write_text("token")
    federated = {name: value for name, value in REAL.items() if name != "AZURE_CLIENT_SECRET"}
    federated["AZURE_FEDERATED_TOKEN_FILE"] = str(token)
    assert Settings.load(federated).session_secrets == ()
    with pytest.raises(NotConfigured, match="SESSION_SECRET is not set"):
        Settings.load({**federated, **REDIS})
    assert Settings.load({"REFLEX_ENV_MODE": "dev", **REDIS}).session_secrets == ()
    given = Settings.load({**REAL, "SESSION_SECRET": "canary" * 8})
    assert "canary" not in repr(given)
