"""The cookies of the app."""
