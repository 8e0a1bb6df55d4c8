"""The app's name and colour; change them here."""

APP_NAME = "Company site"
COLOURS = {
    "brand": {
        "DEFAULT": "#1d4ed8",  # background of white text
        "strong": "#1e40af",  # the same, on hover
        "light": "#60a5fa",  # on a dark background
    }
}
