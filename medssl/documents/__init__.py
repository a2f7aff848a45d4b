"""Documents of plain values, JSON and YAML: read with limits, checked against a shape, told in one sentence."""
