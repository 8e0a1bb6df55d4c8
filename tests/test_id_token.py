"""The validation of ID tokens; MSAL checks none of it."""

import re
import time
from base64 import urlsafe_b64encode
from datetime import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from forge import (
    CLIENT,
    HOST,
    ISSUER,
    KEY,
    KID,
    NONCE,
    OBJECT,
    OTHER_KEY,
    OTHER_TENANT,
    TENANT,
    hs256_with_public_key,
    id_token,
    jwk,
    unsigned,
)
from jwt.algorithms import RSAAlgorithm

from azure_auth.auth.entra.id_token import read_keys, validate
from azure_auth.auth.entra.refreshing import RefreshingValue
from azure_auth.auth.identity import Identity
from azure_auth.errors import AnswerIncomplete, ClocksDiffer, Refused, TokenInvalid

SHORT_KEY = rsa.generate_private_key(65537, 1024)
TEMPLATE = f"{HOST}/{{tenantid}}/v2.0"


def keys(*entries: dict[str, str]) -> RefreshingValue:
    return RefreshingValue(lambda: read_keys({"keys": list(entries or [jwk()])}))


def check(token: object, **changed):
    expected = {"keys": keys(), "client_id": CLIENT, "issuer": ISSUER, "allowed_tenants": frozenset(), "nonce": NONCE}
    return validate(token, **{**expected, **changed})


def test_a_proper_token_gives_its_claims():
    """A genuine token is valid; this is the control for the forgeries."""
    claims = check(id_token())
    assert (claims["tid"], claims["oid"], claims["name"]) == (TENANT, OBJECT, "Ada Lovelace")


FORGED = {
    "issuer_other_tenant": lambda: id_token(iss=f"{HOST}/{OTHER_TENANT}/v2.0"),
    "issuer_v1": lambda: id_token(iss=f"https://sts.windows.net/{TENANT}/"),
    "issuer_with_slash": lambda: id_token(iss=f"{ISSUER}/"),
    "issuer_list": lambda: id_token(iss=[ISSUER]),
    "audience_other_app": lambda: id_token(aud=OTHER_TENANT),
    "audience_list": lambda: id_token(aud=[CLIENT, OTHER_TENANT]),
    "audience_list_of_one": lambda: id_token(aud=[CLIENT]),
    "authorized_party_other_app": lambda: id_token(azp=OTHER_TENANT),
    "tenant_other": lambda: id_token(tid=OTHER_TENANT),
    "tenant_host": lambda: id_token(tid="login.microsoftonline.com"),
    "tenant_number": lambda: id_token(tid=1),
    "expired": lambda: id_token(exp=int(time.time()) - 61),
    "expiry_text": lambda: id_token(exp="soon"),
    "not_yet": lambda: id_token(nbf=int(time.time()) + 120),
    "issued_in_the_future": lambda: id_token(iat=int(time.time()) + 120),
    "nonce_of_another_flow": lambda: id_token(nonce="another"),
    "object_empty": lambda: id_token(oid=""),
    "object_number": lambda: id_token(oid=7),
    "subject_empty": lambda: id_token(sub=""),
    "other_key": lambda: id_token(key=OTHER_KEY),
    "unknown_key": lambda: id_token(key=OTHER_KEY, kid="key-2"),
    "no_key_named": lambda: id_token(kid=None),
    "embedded_key": lambda: id_token(key=OTHER_KEY, headers={"jwk": jwk(OTHER_KEY)}),
    "embedded_key_address": lambda: id_token(key=OTHER_KEY, headers={"jku": "https://evil.example/keys"}),
    "alg_none": lambda: unsigned("none"),
    "alg_rs256_unsigned": lambda: unsigned("RS256"),
    "alg_hs256_with_public_key": hs256_with_public_key,
    "payload_swapped": lambda: ".".join(
        [*id_token().split(".")[:1], *id_token(oid="x").split(".")[1:2], id_token().split(".")[2]]
    ),
    "not_a_jwt": lambda: "not a jwt",
    "half_a_jwt": lambda: id_token().rpartition(".")[0],
    "empty": lambda: "",
    "none": lambda: None,
    "number": lambda: 5,
    **{
        f"{name}_missing": lambda name=name: id_token(**{name: None})
        for name in ("iss", "aud", "tid", "exp", "nbf", "iat", "oid", "sub")
    },
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_token_proves_nothing(forgery):
    """Each class of forgery is refused."""
    with pytest.raises(AnswerIncomplete if forgery in ("empty", "none", "number") else TokenInvalid):
        check(FORGED[forgery]())


def test_a_token_without_nonce_proves_nothing():
    """A token without a nonce is refused."""
    import jwt
    from forge import claims

    said = claims()
    del said["nonce"]
    with pytest.raises(TokenInvalid):
        check(jwt.encode(said, KEY, "RS256", {"kid": KID}))


@pytest.mark.parametrize(("name", "inside", "outside"), [("exp", -58, -61), ("nbf", 58, 63), ("iat", 58, 63)])
def test_clocks_may_differ_by_a_minute(name, inside, outside):
    """The leeway is 60 s, not more."""
    now = int(time.time())
    assert check(id_token(**{name: now + inside}))
    with pytest.raises(TokenInvalid):
        check(id_token(**{name: now + outside}))


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("exp", {"iat": 1_000_000_000, "nbf": 1_000_000_000, "exp": 1_000_003_600}),
        ("nbf", {"nbf": 4_000_000_000}),
        ("iat", {"iat": 4_000_000_000}),
        ("iat", {"iat": 2**60}),
    ],
)
def test_a_wrong_clock_is_named(named, wrong):
    """If a signed token is not valid now, the log has both clocks' times, and the page blames nobody."""
    with pytest.raises(ClocksDiffer) as caught:
        check(id_token(**wrong))
    line = str(caught.value)
    assert "check this machine's clock" in line
    expected = {2**60: "unreadable", 1_000_003_600: "2001-09-09T02:46:40Z"}.get(wrong[named], "2096-10-02T07:06:40Z")
    assert f"token's {named} {expected}" in line
    ours = re.search(r"this machine (\S+Z)", line)
    assert ours
    assert abs(datetime.fromisoformat(ours[1]).timestamp() - time.time()) < 60
    assert "nothing wrong with your account" in caught.value.message


@pytest.mark.parametrize("forged", [{"key": OTHER_KEY}, {"key": OTHER_KEY, "kid": "key-2"}])
def test_a_forged_token_says_nothing_about_the_clock(forged):
    """Without the directory's signature, an expired token is a forgery."""
    with pytest.raises(TokenInvalid) as caught:
        check(id_token(**forged, exp=1))
    assert type(caught.value) is TokenInvalid
    assert "clock" not in str(caught.value)


def test_the_detail_of_a_refusal_holds_no_claim():
    """The log line names a claim, but no value of one, besides the token's times."""
    for forgery in FORGED.values():
        with pytest.raises((TokenInvalid, AnswerIncomplete)) as caught:
            check(forgery())
        for secret in ("ada@", "Lovelace", OBJECT, "eyJ", "evil"):
            assert secret not in str(caught.value)


def test_many_tenants_enter_by_the_list():
    """For `organizations`, the issuer must be the person's tenant, and that tenant must be listed."""
    own = f"{HOST}/{OTHER_TENANT}/v2.0"
    token = id_token(iss=own, tid=OTHER_TENANT)
    assert check(token, issuer=TEMPLATE, allowed_tenants=frozenset({OTHER_TENANT}))["tid"] == OTHER_TENANT
    with pytest.raises(Refused, match=r"^other_tenant "):
        check(token, issuer=TEMPLATE, allowed_tenants=frozenset({TENANT}))
    with pytest.raises(Refused, match=r"^other_tenant "):
        check(token, issuer=TEMPLATE)
    with pytest.raises(TokenInvalid):
        check(id_token(iss=own, tid=TENANT), issuer=TEMPLATE, allowed_tenants=frozenset({TENANT, OTHER_TENANT}))


def test_a_single_tenant_can_be_narrowed_but_not_widened():
    """AZURE_ALLOWED_TENANTS never lets another tenant through a single-tenant issuer."""
    with pytest.raises(TokenInvalid):
        check(id_token(tid=OTHER_TENANT), allowed_tenants=frozenset({TENANT, OTHER_TENANT}))
    with pytest.raises(Refused, match=r"^other_tenant "):
        check(id_token(), allowed_tenants=frozenset({OTHER_TENANT}))


def test_a_tenant_is_the_same_in_capitals():
    """A tenant's GUID may have either case, for the issuer, the signing key and the list of tenants."""
    tenant = "abcdefab-cdef-4abc-8def-abcdefabcdef"
    own = f"{HOST}/{tenant}/v2.0"
    token = id_token(iss=own, tid=tenant.upper())
    assert check(token, issuer=own)
    assert check(token, issuer=TEMPLATE, allowed_tenants=frozenset({tenant}), keys=keys(jwk(issuer=TEMPLATE)))
    with pytest.raises(Refused, match=r"^other_tenant "):
        check(token, issuer=TEMPLATE, allowed_tenants=frozenset({TENANT}))


def test_a_key_signs_for_its_issuer_only():
    """A key with an issuer is valid for that issuer alone."""
    token = id_token()
    assert check(token, keys=keys(jwk(issuer=TEMPLATE)))
    assert check(token, keys=keys(jwk(issuer=ISSUER)))
    with pytest.raises(TokenInvalid):
        check(token, keys=keys(jwk(issuer=f"{HOST}/{OTHER_TENANT}/v2.0")))


def test_only_rsa_signing_keys_are_keys():
    """Only RSA signing keys count; a set without one is refused."""
    with pytest.raises(ValueError):
        check(id_token(), keys=keys(jwk(use="enc")))
    with pytest.raises(ValueError):
        read_keys({"keys": [{"kty": "oct", "kid": KID, "k": "c2VjcmV0"}]})
    with pytest.raises(ValueError):
        read_keys({})


UNUSABLE = {
    "base64": jwk() | {"n": "&&&"},
    "n_missing": {name: value for name, value in jwk().items() if name != "n"},
    "e_missing": {name: value for name, value in jwk().items() if name != "e"},
    "n_number": jwk() | {"n": 7},
    "n_list": jwk() | {"n": [jwk()["n"]]},
    "n_empty": jwk() | {"n": ""},
    "e_zero": jwk() | {"e": "AA"},
    "e_even": jwk() | {"e": "Ag"},
    "e_huge": jwk() | {"e": jwk(OTHER_KEY)["n"]},
    "e_long": jwk() | {"e": urlsafe_b64encode(bytes([1, 0, 0, 0, 1])).decode()},
    "short": jwk(SHORT_KEY),
    "private": {**RSAAlgorithm.to_jwk(KEY, as_dict=True), "kid": KID},
    "x5c_only": {"kty": "RSA", "use": "sig", "kid": KID, "x5c": ["MIIC"]},
    "elliptic": {"kty": "EC", "use": "sig", "kid": KID, "crv": "P-256", "x": "AA", "y": "AA"},
    "symmetric": {"kty": "oct", "kid": KID, "k": "c2VjcmV0"},
    "for_encryption": jwk(use="enc"),
    "use_list": jwk() | {"use": ["sig"]},
    "alg_other": jwk(alg="RSA-OAEP"),
    "alg_hs256": jwk(alg="HS256"),
    "alg_number": jwk() | {"alg": 256},
    "issuer_list": jwk() | {"issuer": [ISSUER]},
    "kid_missing": {name: value for name, value in jwk().items() if name != "kid"},
    "kid_number": jwk() | {"kid": 7},
    "kid_list": jwk() | {"kid": [KID]},
    "list": [jwk()],
    "text": "key",
    "null": None,
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_an_unusable_key_spoils_no_other(fault):
    """An entry that is no RSA signing key of 2048 bits (RFC 7517, RFC 7518 §3.3) is ignored; alone it is no key set."""
    entry = UNUSABLE[fault]
    for entries in ([entry, jwk()], [jwk(), entry]):
        read = read_keys({"keys": entries})
        assert [*read] == [KID]
        assert check(id_token(), keys=RefreshingValue(lambda read=read: read))
    with pytest.raises(ValueError, match="no signing key"):
        read_keys({"keys": [entry]})


@pytest.mark.parametrize("found", [None, {}, {KID: jwk()}, "keys", 7, True, [[jwk()]]])
def test_a_key_set_is_a_list(found):
    """Any other value of "keys" is no key set."""
    with pytest.raises(ValueError, match="no signing key"):
        read_keys({"keys": found})


def test_the_first_key_of_a_name_counts():
    """Of two usable keys with the same `kid`, the first one verifies."""
    twice = keys(jwk(), jwk(OTHER_KEY))
    assert check(id_token(), keys=twice)
    with pytest.raises(TokenInvalid):
        check(id_token(key=OTHER_KEY), keys=twice)


def test_a_key_set_is_read_up_to_a_bound():
    """Entries after the hundredth are ignored."""
    assert [*read_keys({"keys": [{}] * 99 + [jwk()]})] == [KID]
    with pytest.raises(ValueError, match="no signing key"):
        read_keys({"keys": [{}] * 100 + [jwk()]})


@pytest.mark.parametrize("name", ["tid", "oid", "sid"])
def test_a_person_is_the_same_in_capitals(name):
    """Tenant, person and Entra's session are the same in either case of their GUIDs."""
    said = {claim: f"abcdefab-0000-4000-8000-{claim.encode().hex():>012}" for claim in ("tid", "oid", "sid")}
    who, shouted = Identity.from_claims(said), Identity.from_claims({**said, name: said[name].upper()})
    assert shouted == who
    assert shouted.key == who.key == (said["tid"], said["oid"])
    assert who.sid == said["sid"]


def test_a_person_is_of_their_tenant():
    """The same object id in another tenant is another person."""
    ours, theirs = (Identity.from_claims({"tid": tenant, "oid": OBJECT}) for tenant in (TENANT, OTHER_TENANT))
    assert ours.key != theirs.key


@pytest.mark.parametrize(
    ("said", "name", "initials"),
    [
        ({"name": "Ada Lovelace"}, "Ada Lovelace", "AL"),
        ({"name": "  Ada  "}, "Ada", "A"),
        ({"name": "Augusta Ada King Lovelace"}, "Augusta Ada King Lovelace", "AL"),
        ({}, "ada.lovelace@contoso.example", "AL"),
        ({"name": ""}, "ada.lovelace@contoso.example", "AL"),
        ({"name": None, "preferred_username": None}, "there", "T"),
    ],
)
def test_a_person_is_never_undefined(said, name, initials):
    """Without a name the user name is shown, and without both the greeting is still readable."""
    who = Identity.from_claims(
        {"tid": TENANT, "oid": OBJECT, "preferred_username": "ada.lovelace@contoso.example", **said}
    )
    assert (who.name, who.initials) == (name, initials)
