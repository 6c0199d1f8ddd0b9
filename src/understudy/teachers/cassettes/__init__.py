"""Cassettes: replies in a file, to be taken elsewhere, and the files of requests that others answer."""
