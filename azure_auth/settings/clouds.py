"""The hosts of Microsoft's clouds. A directory's issuer can be on another host than the configured one.

Sources: Microsoft's "National clouds", and the alias table that each MSAL has built in (`authority.py`).
"""

_CLOUDS = (
    ("login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net"),
    ("login.microsoftonline.us", "login.usgovcloudapi.net"),
    ("login.partner.microsoftonline.cn", "login.chinacloudapi.cn"),
)
"""One row per cloud. The first host is the issuer's. A cloud with a single host needs no row."""
EXTERNAL_ID = ".ciamlogin.com"
"""Entra External ID: each directory has its own hosts."""
CLOSED = "https://login.microsoftonline.de"
B2C = (".b2clogin.com", ".b2clogin.cn", ".b2clogin.us", ".b2clogin.de")


def origins(authority_host: str, tenant_id: str) -> tuple[str, ...]:
    """Return the origins of a directory, the issuer's first. An endpoint may be on any of them.

    `tenant_id` is the tenant's GUID; External ID has it in the issuer's host.
    """
    host = authority_host.removeprefix("https://")
    if host.endswith(EXTERNAL_ID):
        hosts = f"{tenant_id}{EXTERNAL_ID}", host
    else:
        hosts = next((cloud for cloud in _CLOUDS if host in cloud), (host,))
    return tuple(f"https://{name}" for name in hosts)
