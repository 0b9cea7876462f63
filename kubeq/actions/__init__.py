"""What a user can do, a module each: takes objects, returns values; never prints, never reads flags."""
