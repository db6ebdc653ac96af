"""Embedded servers and the supervisor behind `script/server`, in plain Python: nothing here imports Django.

It starts on a machine that has only Python and the locked packages, before any setting can be read.
"""
