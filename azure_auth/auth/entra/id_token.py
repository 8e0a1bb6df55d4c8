"""Validates an ID token (OpenID Connect Core §3.1.3.7; Microsoft's "ID token claims"). MSAL validates none of it.

PyJWT does the cryptography. This module decides which algorithm, key, issuer and tenant are valid.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.types import Options

from azure_auth.auth.entra.refreshing import RefreshingValue
from azure_auth.errors import AnswerIncomplete, ClocksDiffer, Refused, TokenInvalid

LEEWAY_SECONDS = 60
_OPTIONS: Options = {"require": ["iss", "aud", "exp", "nbf", "iat", "nonce", "tid", "oid", "sub"], "strict_aud": True}
_TENANT = "{tenantid}"
_MOST_KEYS = 100
"""How many entries of a key set are read; Entra publishes fewer than ten."""
_LEAST_BITS, _MOST_EXPONENT_BITS = 2048, 32
"""RFC 7518 §3.3 demands 2048 bits. A longer exponent only makes verification slow."""

SigningKeys = RefreshingValue[Mapping[str, "SigningKey"]]
"""The directory's signing keys by `kid`; an unknown `kid` renews them."""


class SigningKey(NamedTuple):
    """A signing key of the directory. Tokens that it signs must have `issuer`, if the directory names one."""

    key: jwt.PyJWK
    issuer: str | None


def read_keys(document: Mapping[str, Any]) -> dict[str, SigningKey]:
    """Read a JSON Web Key Set (RFC 7517 §5); only RSA signing keys count, and without one this raises ValueError.

    Unusable entries are ignored. Of entries with the same `kid`, the first usable one counts.
    """
    found: Any = document.get("keys")
    entries = cast("list[Any]", found) if isinstance(found, list) else []
    keys: dict[str, SigningKey] = {}
    for entry in entries[:_MOST_KEYS]:
        if key := _read_key(entry):
            keys.setdefault(entry["kid"], key)
    if not keys:
        raise ValueError("no signing key")
    return keys


def _read_key(entry: Any) -> SigningKey | None:
    if not isinstance(entry, dict):
        return None
    named: dict[str, Any] = {"use": "sig", "alg": "RS256", "issuer": "", **entry}
    if (named.get("kty"), named["use"], named["alg"]) != ("RSA", "sig", "RS256"):
        return None
    if not isinstance(named.get("kid"), str) or not isinstance(named["issuer"], str):
        return None
    try:
        key = jwt.PyJWK(named, "RS256")
    except Exception:  # PyJWT and cryptography raise many kinds of error for bad numbers
        return None
    public = key.key
    if not isinstance(public, RSAPublicKey) or public.key_size < _LEAST_BITS:
        return None
    if public.public_numbers().e.bit_length() > _MOST_EXPONENT_BITS:
        return None
    return SigningKey(key, named["issuer"] or None)


def validate(
    token: object, *, keys: SigningKeys, client_id: str, issuer: str, allowed_tenants: frozenset[str], nonce: str
) -> Mapping[str, Any]:
    """Return the claims of an ID token, which must be valid for this app and this flow.

    `issuer` contains `{tenantid}` for `organizations` and `common`. Without `allowed_tenants`, only people of the
    issuer's one tenant may sign in. The token has the hash of the flow's `nonce`, because MSAL sends that.

    Raises:
        AnswerIncomplete: When there is no token.
        Refused: When the token is valid, but the person's tenant is not allowed.
        ClocksDiffer: When the token is signed, but not valid at this machine's time.
        TokenInvalid: In every other case.
    """
    if not isinstance(token, str) or not token:
        raise AnswerIncomplete("no ID token in the answer")
    try:
        key, key_issuer = _key_for(jwt.get_unverified_header(token), keys)
        claims = jwt.decode(
            token, key, algorithms=["RS256"], audience=client_id, leeway=LEEWAY_SECONDS, options=_OPTIONS
        )
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as why:  # PyJWT verifies the signature first
        raise ClocksDiffer(_times(token)) from why
    except jwt.PyJWTError as why:
        raise TokenInvalid(f"{type(why).__name__}: {why}") from None
    for name in ("iss", "nonce", "tid", "oid", "sub"):
        if not isinstance(claims[name], str) or not claims[name] or not claims[name].isascii():
            raise TokenInvalid(f"claim {name} is not a text as Entra writes it")
    if claims.get("azp", client_id) != client_id:
        raise TokenInvalid("claim azp names another app")
    if not compare_digest(claims["nonce"].encode(), sha256(nonce.encode()).hexdigest().encode()):
        raise TokenInvalid("claim nonce is another flow's")
    tenant = claims["tid"].lower()
    if claims["iss"] != issuer.replace(_TENANT, tenant):
        raise TokenInvalid(f"claim iss is not {issuer.replace(_TENANT, tenant)}")
    if key_issuer and key_issuer.replace(_TENANT, tenant) != claims["iss"]:
        raise TokenInvalid("the signing key is another issuer's")
    home = issuer.split("/")[-2]
    if home not in (_TENANT, tenant):
        raise TokenInvalid("claim tid is another tenant's")
    if tenant not in (allowed_tenants or {home}):
        raise Refused(code="other_tenant")
    return claims


def _key_for(header: Mapping[str, Any], keys: SigningKeys) -> SigningKey:
    """Return the key that the header names by `kid`; keys inside the token (`jwk`, `jku`, `x5u`, `x5c`) are ignored."""
    kid = str(header.get("kid", ""))
    key = keys.get().get(kid) or keys.get(renew=True).get(kid)
    if key is None:
        raise TokenInvalid("the signing key is unknown to the directory")
    return key


def _times(token: str) -> str:
    """Return the times of a token and of this machine, for the log."""
    claims = jwt.decode(token, options={"verify_signature": False})
    times = {f"token's {name}": claims.get(name) for name in ("iat", "nbf", "exp")} | {"this machine": time.time()}
    return ", ".join(f"{name} {_utc(value)}" for name, value in times.items())


def _utc(seconds: Any) -> str:
    try:
        return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (TypeError, ValueError, OverflowError, OSError):
        return "unreadable"
