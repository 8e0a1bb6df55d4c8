"""The hosts of Microsoft's clouds: a directory's issuer can lie on another host than the configured one.

Sources: Microsoft's "National clouds", and the alias table that each MSAL has built in (`authority.py`).
"""

_CLOUDS = (
    ("login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net"),
    ("login.microsoftonline.us", "login.usgovcloudapi.net"),
    ("login.partner.microsoftonline.cn", "login.chinacloudapi.cn"),
)
"""The hosts of one cloud each; the first is that of its issuers. Clouds with one host only need no row."""
EXTERNAL_ID = ".ciamlogin.com"
"""Entra External ID; every directory has hosts of its own."""
CLOSED = "https://login.microsoftonline.de"
B2C = (".b2clogin.com", ".b2clogin.cn", ".b2clogin.us", ".b2clogin.de")


def origins(authority_host: str, tenant_id: str) -> tuple[str, ...]:
    """Return the origins that belong to a directory, the issuer's first; each has its endpoints on any of them.

    `tenant_id` is the GUID of the directory's tenant; External ID has it in the issuer's host.
    """
    host = authority_host.removeprefix("https://")
    if host.endswith(EXTERNAL_ID):
        hosts = f"{tenant_id}{EXTERNAL_ID}", host
    else:
        hosts = next((cloud for cloud in _CLOUDS if host in cloud), (host,))
    return tuple(f"https://{name}" for name in hosts)
