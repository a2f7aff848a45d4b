"""How far a long step is, for whoever waits."""
