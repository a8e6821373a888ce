"""The command line, the bench recorder and the demo model."""
