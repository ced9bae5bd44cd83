"""What `inspect` shows: each module turns one family of formats into a tree. Nothing here verifies anything."""
