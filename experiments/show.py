"""python -m experiments.show runs herjax/commands/show.py."""

from herjax.commands import show

if __name__ == "__main__":
    show()
