"""Datastores of random vectors, and the score over them beside a bare product."""
