"""The report of a run: one self-contained HTML file. numpy, pandas, matplotlib and jinja2 only."""
