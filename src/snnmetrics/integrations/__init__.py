"""Connections to other libraries: one module each, imported by its name only.

Example:
    >>> from snnmetrics.integrations.lightning import SNNMetricsCallback
    >>> SNNMetricsCallback("net", batch_dim=0).stages
    ('val', 'test')
"""
