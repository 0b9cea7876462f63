"""Where records live: dumb tables with compare-and-swap, and one Queue above them that knows the rules."""
