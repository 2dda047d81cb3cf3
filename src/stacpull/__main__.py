"""`python -m stacpull` is the command `stacpull`."""

from stacpull.cli.entry import main

if __name__ == "__main__":
    main()
