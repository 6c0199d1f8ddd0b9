"""The engine: how requests get to an endpoint, and every reply into the ledger."""
