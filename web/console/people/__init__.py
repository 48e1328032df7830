"""Sign-in and the own profile."""
