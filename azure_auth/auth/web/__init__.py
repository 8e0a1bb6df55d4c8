"""The ASGI side: connections, routes, headers. It knows no Reflex."""
