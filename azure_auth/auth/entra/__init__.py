"""Requests to the directory, and the validation of its answers. Only this package imports MSAL, httpx and PyJWT."""
