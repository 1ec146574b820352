"""reprise: re-runs the tables and figures of papers, and says whether they agree."""
