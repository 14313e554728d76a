"""Our server, its peers and the limit of the machine, in turns of a few seconds."""
