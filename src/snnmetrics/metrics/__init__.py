"""The metrics: thin classes on one base."""
