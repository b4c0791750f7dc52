"""What is shown of a run: figures and pages. Imports all wings above."""
