"""Where a plan's units are done: in this process, in processes of this machine, or on a Ray cluster."""
