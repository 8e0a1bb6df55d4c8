"""What we ask of the directory, and how its answers are validated."""
