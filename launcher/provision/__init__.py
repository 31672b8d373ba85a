"""Puts the server and action packages on a machine that has nothing but a Python: `se-remote provision`.

packing     our own wheel, from what is installed here
resolving   the wheels of all else, for the machine's Python and platform, by the pip of this machine
library     the wheels that are kept here
asking      what runs on the machine (there.py), and its answers
providing   the whole of it
"""
