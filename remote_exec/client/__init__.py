"""The client's side of the wire: one thread with sockets, links to hosts, sessions. Knows no tree."""
