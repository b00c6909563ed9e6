"""What a process of tests need not pay for: seeds of absent devices, handlers of loggers, the search for garbage."""

import atexit
import gc
import logging

import torch
import torch._dynamo  # which has loggers too, and which the first optimizer's step would import

BETWEEN_COLLECTIONS = 20_000
"""Objects made between two looks of Python for garbage, which otherwise come every 700."""


def spare():
    """Leave out what costs a process of tests much and tells nothing; what a test sees stays the same."""
    _seed_no_absent_devices()
    _let_loggers_pass_on()
    gc.set_threshold(BETWEEN_COLLECTIONS)


def keep_imports():
    """Never again look for garbage among what is there by now, such as the modules of PyTorch."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries that count what is left at the end complain on the standard error


def _seed_no_absent_devices():
    """`torch.manual_seed` writes down the whole stack thrice, to tell a device that turns up who has seeded it."""
    for device in (torch.cuda, torch.xpu, torch.mtia):
        if not device.is_available():
            device.manual_seed_all = lambda seed: None


def _let_loggers_pass_on():
    """Let PyTorch's loggers pass on what they say: to each that doesn't, every test adds handlers of pytest."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and not logger.propagate and name.partition(".")[0] == "torch":
            logger.propagate = True
            logger.handlers.clear()
