"""The Reflex side: every event and every update passes here."""
