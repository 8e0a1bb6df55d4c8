"""Stores: their contract, the embedded one and Redis."""
