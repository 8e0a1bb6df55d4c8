"""The demo directory's signing key and the ID tokens that it signs; on demand also those that nobody should believe."""

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from azure_auth.demo.people import OTHER_TENANT, Person

LIFETIME_SECONDS = 3600
_WRONG: dict[str, object] = {
    "iss": f"https://login.microsoftonline.com/{OTHER_TENANT}/v2.0",
    "aud": OTHER_TENANT,
    "tid": OTHER_TENANT,
    "exp": 1,
    "nbf": 2**40,
    "iat": 2**40,
    "nonce": "another",
    "oid": 7,
    "sub": "",
}


class Signer:
    """One RSA key, until it is rolled over."""

    def __init__(self) -> None:
        """Make the first key."""
        self.roll_over()

    def roll_over(self) -> None:
        """Replace the key; tokens signed before are no longer verifiable."""
        self._key = rsa.generate_private_key(65537, 2048)
        self._kid = secrets.token_urlsafe(20)

    def jwks(self, issuer: str) -> dict[str, Any]:
        """Return the key set that the directory publishes."""
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self._kid, "use": "sig", "issuer": issuer}]}

    def sign(self, claims: Mapping[str, Any], forge: str | None = None) -> str | None:
        """Return an ID token; `forge` names one of `FORGERIES`."""
        return FORGERIES[forge](self, dict(claims)) if forge else self._jwt(claims)

    def _jwt(self, claims: Mapping[str, Any], key: rsa.RSAPrivateKey | None = None, **header: object) -> str:
        payload = json.dumps(claims).encode()
        return jwt.api_jws.encode(payload, key or self._key, "RS256", {"kid": self._kid, **header})

    def _without_signature(self, claims: Mapping[str, Any], alg: str) -> str:
        parts = ({"alg": alg, "typ": "JWT", "kid": self._kid}, claims)
        return ".".join(_encoded(json.dumps(part).encode()) for part in parts)

    def _hs256(self, claims: Mapping[str, Any]) -> str:
        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = self._without_signature(claims, "HS256")
        return f"{signed}.{_encoded(hmac.digest(public, signed.encode(), 'sha256'))}"


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _foreign_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _embedded(signer: Signer, claims: Mapping[str, Any]) -> str:
    key = _foreign_key()
    return signer._jwt(claims, key, jwk=RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))


def _without(name: str) -> Callable[[Signer, dict[str, Any]], str]:
    return lambda signer, claims: signer._jwt({k: v for k, v in claims.items() if k != name})


def _with(name: str, value: object) -> Callable[[Signer, dict[str, Any]], str]:
    return lambda signer, claims: signer._jwt({**claims, name: value})


FORGERIES: dict[str, Callable[[Signer, dict[str, Any]], str | None]] = {
    **{f"{name}_wrong": _with(name, value) for name, value in _WRONG.items()},
    **{f"{name}_missing": _without(name) for name in _WRONG},
    "other_key": lambda signer, claims: signer._jwt(claims, _foreign_key()),
    "unknown_kid": lambda signer, claims: signer._jwt(claims, _foreign_key(), kid="unknown"),
    "alg_none": lambda signer, claims: signer._without_signature(claims, "none") + ".",
    "alg_hs256": lambda signer, claims: signer._hs256(claims),
    "embedded_key": _embedded,
    "not_a_jwt": lambda *_: "not a jwt",
    "no_token": lambda *_: None,
}
"""Each class of token that an app must refuse, by name."""


def claims_for(
    person: Person, *, client_id: str, issuer: str, tenant_id: str, nonce: str, sid: str
) -> dict[str, object]:
    """Return what the directory says of a person (Microsoft's "ID token claims reference")."""
    now = int(time.time())
    claims: dict[str, object] = {
        "aud": client_id,
        "iss": issuer,
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME_SECONDS,
        "login_hint": f"O.{secrets.token_urlsafe(24)}",
        "nonce": nonce,
        "oid": person.oid,
        "preferred_username": person.username,
        "sid": sid,
        "sub": sha256(f"{client_id} {person.oid}".encode()).hexdigest()[:43],
        "tid": tenant_id,
        "ver": "2.0",
    }
    if person.name:
        claims["name"] = person.name
    if person.roles:
        claims["roles"] = list(person.roles)
    if person.guest_of:
        claims |= {"idp": f"https://sts.windows.net/{person.guest_of}/", "acct": 1}
    if person.groups > 200:  # Entra leaves the list out then, and names where to ask for it
        source = f"https://graph.microsoft.com/v1.0/users/{person.oid}/getMemberObjects"
        claims |= {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": source}}}
    elif person.groups:
        claims["groups"] = [f"00000000-0000-4000-8000-{number:012d}" for number in range(person.groups)]
    return claims
