"""python -m experiments.show runs herjax/commands/show.py."""

from herjax_commands import show

if __name__ == "__main__":
    show()
