"""`python -m lightning_rnnattn`."""

from lightning_rnnattn.cli import main

if __name__ == "__main__":
    main()
