"""The report of one run: a single page that states what was gained, what was lost, and how each number was made."""
