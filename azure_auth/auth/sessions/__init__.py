"""Who is signed in: sessions, their records, keys and stores."""
