"""What changes weights: pretraining, and adaptation at test time. Imports all wings above."""
