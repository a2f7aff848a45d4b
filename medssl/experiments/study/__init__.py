"""Studies: searches over recipes whose choices never see the test rows."""
