"""Connections to other libraries: one module each, to be imported explicitly.

Example:
    >>> from snnmetrics.integrations.lightning import SNNMetricsCallback
    >>> SNNMetricsCallback("net", batch_dim=0).stages
    ('val', 'test')
"""
