"""Feature packs: everything that a frozen-encoder task needs after its expensive part, in a folder to hand on."""
