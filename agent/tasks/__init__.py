"""The only place that joins the stages: a wake-up names a work item, the ledger says which step it needs.

`runner` claims, runs and survives; each step is a module of its own, so that a process loads only what its queue needs.
"""
