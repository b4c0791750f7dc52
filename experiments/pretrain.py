"""python -m experiments.pretrain runs herjax/commands/pretrain.py."""

from herjax_commands import pretrain

if __name__ == "__main__":
    pretrain()
