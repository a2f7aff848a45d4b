"""From an encoder and a manifest to a table of features, and that table as a file."""
