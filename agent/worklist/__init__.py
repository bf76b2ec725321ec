"""The ledger and everything that is decided from it. The only room, with the store, in which stages meet."""
