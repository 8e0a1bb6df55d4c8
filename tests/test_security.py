"""What `docs/security.md` says is so."""

import re

from conftest import ROOT


def test_no_password_grant_and_no_unverified_connection():
    """Nothing asks for passwords, and nothing switches verification of certificates off."""
    for path in (ROOT / "azure_auth").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"acquire_token_by_username_password|verify\s*=\s*False|CERT_NONE", text), path.name
