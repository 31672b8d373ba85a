"""Processes of the inventory: in tmux windows, watched until they are ready, stopped with all they began."""
