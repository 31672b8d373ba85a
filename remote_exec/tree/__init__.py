"""What stands in the behaviour tree: proxies, and the scenario and runner that they belong to."""
