"""What runs on the host: the server's processes, its sessions, the actions. Never imports client or tree."""
