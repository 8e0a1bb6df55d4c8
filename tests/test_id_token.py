"""The validation of ID tokens; MSAL checks none of it."""

import time

import pytest
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

from azure_auth.auth.entra.id_token import read_keys, validate
from azure_auth.auth.entra.refreshing import RefreshingValue
from azure_auth.auth.identity import Identity
from azure_auth.errors import AnswerIncomplete, Refused, TokenInvalid

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


def test_the_detail_of_a_refusal_holds_no_claim():
    """The log line names a claim, but not its value."""
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
