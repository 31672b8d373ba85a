"""Files that go to a machine and come back: two calls over `Runner.open`.

    push    make a folder there what a folder here is; only what changed is sent
    fetch   bring what is in a folder there, verified; a fetch that was cut goes on where it was

Rules:
- nothing of ours is needed there but a Python: the agent's source is sent (agent, wire, names, tree: they
  run on both ends);
- what is decided is decided purely (plan, names); the loop's thread never reads, writes or hashes a file;
- a link is never followed out of a folder, and nothing is written through one;
- a file appears under its name when it is complete.
"""

from launcher.files.fetching import fetch
from launcher.files.pushing import push
from launcher.files.values import Fetched, OnStep, Pushed, Step

__all__ = ["Fetched", "OnStep", "Pushed", "Step", "fetch", "push"]
