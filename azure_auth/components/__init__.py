"""Elements that all pages share."""
