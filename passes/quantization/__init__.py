"""Which contractions may store their weights in another format, and what that costs in error."""
