"""The app's name and look; change them here."""

from typing import Any

APP_NAME = "Company site"
_COLOURS = {
    "brand": {
        "DEFAULT": "#1d4ed8",  # background of white text
        "strong": "#1e40af",  # the same, on hover
        "light": "#60a5fa",  # on a dark background
    }
}
TAILWIND: Any = {
    "darkMode": "media",
    "theme": {
        "extend": {
            "colors": _COLOURS,
            "keyframes": {"appear": {"to": {"visibility": "visible"}}},
            "animation": {"after-3s": "appear 0s 3s forwards", "after-10s": "appear 0s 10s forwards"},
        }
    },
}
"""The configuration of Tailwind that our pages need."""
