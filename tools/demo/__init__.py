"""A small trained digit classifier that ships with the package."""
