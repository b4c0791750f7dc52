"""python -m experiments.her_adapt runs herjax/commands/her_adapt.py."""

from herjax_commands import adapt

if __name__ == "__main__":
    adapt()
