"""What `SESSION_SECRET` keys, and where the secret comes from."""

import stat
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Barrier

import certificates
import pytest
from conftest import ROOT
from cryptography.hazmat.primitives.asymmetric import rsa

from azure_auth.auth.composition import DATA, SECRET
from azure_auth.auth.sessions.server_keys import ServerKeys, kept_in
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


def test_what_one_key_says_means_nothing_elsewhere():
    """The hash under which something lies, which who reads the store has, proves no message."""
    ours = ServerKeys(lambda: [NEW])
    lying = ours.hashed("browser", "somebody's").encode()
    for message in (b"browser\0somebody's", b"hash browser\0somebody's"):
        assert not ours.proves(lying, message)


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


def test_those_who_make_a_secret_at_one_moment_agree(tmp_path):
    """Whoever comes second takes what is there, also when all saw that nothing was."""
    together = Barrier(8)

    def make(file: Path) -> bytes:
        together.wait(10)
        return kept_in(file)[0]

    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            file = tmp_path / f"{number}/session"
            assert len(set(threads.map(make, [file] * 8))) == 1
            assert [path.name for path in file.parent.iterdir()] == ["session"]


def test_a_secret_is_made_once(tmp_path):
    """A restart finds it as it was, and writes nothing."""
    file = tmp_path / "secret/session"
    made, before = kept_in(file), file.stat()
    assert kept_in(file) == made == [file.read_bytes()]
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file.stat().st_ino == before.st_ino


def test_the_secret_does_not_lie_beside_the_store():
    """A backup of the database's folder holds no secret, and git takes neither."""
    data, secret = DATA, SECRET
    assert not secret.is_relative_to(data)
    assert not data.is_relative_to(secret.parent)
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"{data}/", f"{secret.parent}/"} <= set(ignored)


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


def certificate(path: Path) -> str:
    """A new key with its certificate in a file."""
    key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(certificates.pem_of(certificates.certificate(key), key))
    return str(path)


def test_on_redis_a_certificate_stands_in_as_well(tmp_path):
    """All workers derive the same from its private key, and another certificate ends all sessions."""
    base = {name: value for name, value in {**REAL, **REDIS}.items() if name != "AZURE_CLIENT_SECRET"}
    one, other = certificate(tmp_path / "one.pem"), certificate(tmp_path / "other.pem")
    derived = [
        Settings.load({**base, "AZURE_CLIENT_CERTIFICATE_PATH": path}).session_secrets for path in (one, one, other)
    ]
    assert derived[0] == derived[1] != derived[2]
    assert [len(secrets) for secrets in derived] == [1, 1, 1]


def test_a_missing_secret_is_named_with_all_other_faults(tmp_path):
    """Whoever sets up a federated token on Redis hears at once what else is missing."""
    token = tmp_path / "token"
    token.write_text("token")
    environ = {**REDIS, "REFLEX_ENV_MODE": "prod", "AZURE_FEDERATED_TOKEN_FILE": str(token), "SESSION_MAX_HOURS": "x"}
    with pytest.raises(NotConfigured) as stopped:
        Settings.load(environ)
    named = {fault.split()[0] for fault in stopped.value.faults}
    assert {"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "SESSION_SECRET", "SESSION_MAX_HOURS"} <= named
    real = {name: value for name, value in REAL.items() if name != "AZURE_CLIENT_SECRET"}
    given = Settings.load({**environ, **real, "SESSION_MAX_HOURS": "1", "SESSION_SECRET": "a" * 32})
    assert given.session_secrets == (b"a" * 32,)


@pytest.mark.parametrize("where", [{}, REDIS], ids=["embedded", "Redis"])
def test_no_secret_shows(where):
    """Neither what was given nor what was derived is in a repr, of the settings or of what uses them."""
    for given in ({}, {"SESSION_SECRET": f"{'canary' * 8} {'parrot' * 8}"}):
        settings = Settings.load({**REAL, **where, "AZURE_CLIENT_SECRET": "canary-of-the-credential", **given})
        shown = repr(settings) + repr(ServerKeys(lambda s=settings: s.session_secrets))
        hidden = ["canary", "parrot", *(repr(secret)[2:-1] for secret in settings.session_secrets)]
        assert [word for word in hidden if word in shown] == []
