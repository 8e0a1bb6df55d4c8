"""A pretend Entra with a few people, for development and tests. Nobody is really signed in; imports nothing of ours."""

from azure_auth.demo.directory import Directory
from azure_auth.demo.loopback import LoopbackTransport

__all__ = ["Directory", "LoopbackTransport"]
