"""Where bytes live: dumb backends behind `ObjectStore`, and everything clever written once above them."""
