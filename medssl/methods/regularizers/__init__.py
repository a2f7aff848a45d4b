"""Terms that a recipe adds to the loss of a method with a joint embedding (``regularizers:``)."""
