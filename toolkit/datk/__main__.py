"""`python -m datk` and `torchrun ... -m datk`: the same as the command `datk`."""

from datk.cli.main import main

if __name__ == "__main__":
    main()
