"""Tokens as the directory would sign them, and as somebody would forge them."""

import json
import time
from base64 import urlsafe_b64encode
from hashlib import sha256

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

TENANT = "11111111-1111-1111-1111-111111111111"
OTHER_TENANT = "99999999-9999-9999-9999-999999999999"
CLIENT = "22222222-2222-2222-2222-222222222222"
OBJECT = "33333333-3333-3333-3333-333333333333"
HOST = "https://login.microsoftonline.com"
ISSUER = f"{HOST}/{TENANT}/v2.0"
NONCE = "the nonce of this flow"
KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
KID = "key-1"


def jwk(key: rsa.RSAPrivateKey = KEY, kid: str = KID, **more: str) -> dict[str, str]:
    """The public half of a key, as the directory publishes it."""
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"kty": "RSA", "use": "sig", "kid": kid, "n": public["n"], "e": public["e"], **more}


def claims(nonce: str = NONCE, **changed: object) -> dict[str, object]:
    """What a proper ID token says; a change to None leaves the claim out."""
    now = int(time.time())
    proper = {
        "iss": ISSUER,
        "aud": CLIENT,
        "tid": TENANT,
        "oid": OBJECT,
        "sub": "pairwise-subject",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "nonce": sha256(nonce.encode()).hexdigest(),
        "name": "Ada Lovelace",
        "preferred_username": "ada@contoso.example",
        "ver": "2.0",
    }
    return {name: value for name, value in {**proper, **changed}.items() if value is not None}


def id_token(
    key: rsa.RSAPrivateKey = KEY, kid: str | None = KID, headers: dict | None = None, **changed: object
) -> str:
    """A signed ID token; proper unless told otherwise."""
    header = {**({"kid": kid} if kid else {}), **(headers or {})}
    return jwt.api_jws.encode(json.dumps(claims(**changed)).encode(), key, "RS256", header)


def unsigned(alg: str) -> str:
    """A token that claims `alg` and has no signature."""
    parts = [{"alg": alg, "typ": "JWT", "kid": KID}, claims()]
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def hs256_with_public_key() -> str:
    """A token whose HMAC key is our public key: the classic confusion of algorithms."""
    import hmac

    secret = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [{"alg": "HS256", "typ": "JWT", "kid": KID}, claims()]
    signed = ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{signed}.{urlsafe_b64encode(hmac.digest(secret, signed.encode(), 'sha256')).decode().rstrip('=')}"
