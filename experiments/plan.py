"""python -m experiments.plan runs herjax/commands/plan.py."""

from herjax_commands import plan

if __name__ == "__main__":
    plan()
