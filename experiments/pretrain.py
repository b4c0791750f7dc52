"""python -m experiments.pretrain runs herjax/commands/pretrain.py."""

from herjax.commands import pretrain

if __name__ == "__main__":
    pretrain()
