"""A datastore of many datasets, and the rows of it that lie nearest to a task."""

from __future__ import annotations
