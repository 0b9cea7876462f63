"""The relay: lets agents that can reach nothing else take part in a queue and a store of this machine, under guard."""
