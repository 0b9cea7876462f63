"""One file a command; each parses its flags, calls actions and shows what they return."""
