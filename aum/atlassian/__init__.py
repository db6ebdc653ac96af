"""Atlassian Cloud over HTTP: plain Python, without models, settings or imports of the apps.

`client` holds the two clients (the reader cannot write), `limiter` the pace that all workers share, `errors` what can
go wrong, `schemas` what answers become, `calls` the list of every request that can be sent, `probe` the check of
credentials.
"""
