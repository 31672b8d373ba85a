"""Runs actions of a scenario on another machine: the server there, the proxy here.

Kept empty of imports: the server's start-up time is what a user waits for.
"""

__version__ = "0.1.0"
