"""What the pages need beyond Sphinx and its extensions."""
