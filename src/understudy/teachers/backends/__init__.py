"""The back ends: what answers requests, each in a file, and what they share on their way there."""
