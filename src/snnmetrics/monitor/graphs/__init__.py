"""Count compiled models as they run: what is read becomes part of their graphs."""
