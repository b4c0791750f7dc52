"""What to draw: random tasks, named pictures, the user's own. Imports ``dsl``."""
