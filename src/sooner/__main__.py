"""`python -m sooner`, and `torchrun -m sooner train`."""

from sooner.cli import main

if __name__ == "__main__":
    main()
