"""Pages that the program writes about itself."""
