"""`sooner` in a process that has imported all it takes; the workers of its races are forked from it."""

import torch
from forked_workers import start_here

from sooner.cli import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    start_here()
    main()
