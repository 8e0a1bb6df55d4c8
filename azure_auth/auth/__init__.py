"""What signing in means; shows nothing."""
