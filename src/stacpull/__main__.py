"""`python -m stacpull`: the same as the command `stacpull`."""

from stacpull.cli.entry import main

if __name__ == "__main__":
    main()
