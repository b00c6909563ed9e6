"""`sphinx-build` in a process that has imported PyTorch; it seldom looks for garbage, as documents are large trees."""

import gc
import sys

from sphinx.cmd.build import main

if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    sys.exit(main(sys.argv[1:]))
